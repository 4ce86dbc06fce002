use super::*;
use crate::metrics::Headline;
use crate::reading::Reading;
use crate::study::results::Failure;
use crate::study::results::tests::cell;

fn study(cells: Vec<Cell>) -> Results {
    Results {
        title: "A <b>title</b>".into(),
        environment: vec![("<key>".into(), "\"value\" & more".into())],
        cells,
        ..Results::default()
    }
}

/// The page without its own script.
fn page(results: &Results) -> String {
    let whole = html(results);
    assert!(whole.contains(SCRIPT));
    whole.replace(SCRIPT, "")
}

#[test]
fn the_script_is_the_one_that_the_page_allows() {
    use sha2::Digest;
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let hash = sha2::Sha256::digest(SCRIPT.as_bytes());
    let bits = |i: usize| hash.get(i / 8).map_or(0, |byte| byte >> (7 - i % 8) & 1) as usize;
    let digits = (0..43).map(|d| DIGITS[(0..6).fold(0, |sum, i| 2 * sum + bits(6 * d + i))] as char);
    assert_eq!(SCRIPT_HASH, digits.collect::<String>() + "=");
    assert!(html(&Results::default()).contains(&format!("script-src 'sha256-{SCRIPT_HASH}'\"")));
}

#[test]
fn hostile_names_stay_text() {
    let hostile = "</title></svg><script>alert(1)</script><img src=x onerror='y'>";
    let mut bad = cell(hostile, hostile, 128);
    bad.precision = hostile.into();
    bad.protocol = hostile.into();
    bad.energy_note = hostile.into();
    bad.energy_joules = Reading::absent(hostile);
    let mut results = study(vec![bad, cell("led", "qmsum", 128)]);
    results.failed = vec![Failure { cell: hostile.into(), error: hostile.into(), exit_code: 65 }];
    results.left = vec![hostile.into()];
    let page = page(&results);
    assert!(page.contains("id=\"unfinished\""));
    assert_eq!(page.matches("<script").count(), 1, "the page's own");
    assert!(!page.contains("<img") && !page.contains("onerror='"));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    assert!(page.contains("<dt>&lt;key&gt;</dt><dd>&quot;value&quot; &amp; more</dd>"));
    assert!(page.contains("<h1>A &lt;b&gt;title&lt;/b&gt;</h1>"));
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = html(&study(vec![cell("led", "qmsum", 128)]));
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for way in ["http:", "https:", "url(", "@import", "src=\"", "fetch(", "XMLHttp", "import("] {
        assert!(!outside.contains(way), "{way}");
    }
}

#[test]
fn an_empty_study_is_a_page() {
    let page = page(&Results::default());
    assert!(page.contains("There are no results yet.") && page.ends_with("</html>\n"));
    assert!(!page.contains("NaN") && !page.contains("<svg"));
}

#[test]
fn doubling_is_told_from_the_numbers() {
    let mut long = cell("led", "qmsum", 256);
    long.geometric_mean = Reading::measured(19.42);
    long.train_samples_per_second = Reading::measured(1.0);
    long.eval_samples_per_second = Reading::absent("not run");
    long.peak_bytes_measured = Reading::measured(2.2e9);
    let page = html(&study(vec![cell("led", "qmsum", 128), long]));
    assert!(
        page.contains(
            "Doubling the input length multiplied training time per example by 2.40 and peak memory by 2.00; \
             it changed the score by +1.25 points (led on qmsum, 128 to 256 tokens)."
        ),
        "{page}"
    );
    assert!(page.contains("Energy is not reported: no sensor."));
    assert!(page.contains("No total training energy: no sensor. Shown instead: training time."));
    assert!(page.contains("Figure 1. Accuracy against power efficiency</h3><p>Not drawn: not recorded."));
    assert!(page.contains("<dt>Best ROUGE geometric mean</dt><dd><b>19.42</b>"));
}

#[test]
fn nothing_is_claimed_about_doubling_without_a_double() {
    let page = html(&study(vec![cell("led", "qmsum", 128), cell("led", "qmsum", 384)]));
    assert!(page.contains("these cells do not show what doubling costs"));
    assert!(!page.contains("multiplied"));
    let alone = html(&study(vec![cell("led", "qmsum", 128)]));
    assert!(!alone.contains("doubling") && !alone.contains("Best "));
}

#[test]
fn predicted_and_absent_numbers_are_marked() {
    let mut one = cell("led", "qmsum", 128);
    one.energy_joules = Reading::predicted(1234.0);
    one.eval_loss = Reading::measured(f64::NAN);
    let page = html(&study(vec![one]));
    assert!(page.contains("<i class=\"predicted\">1.23</i> <small>predicted</small>"));
    assert!(page.contains("n/a<sup>1</sup>") && page.contains("<li>the value is NaN</li>"));
    assert!(page.contains("hollow, dashed: predicted"));
    assert!(page.contains("id=\"figure-energy\""));
}

#[test]
fn seeds_share_a_line_and_every_id_is_unique() {
    let mut other = cell("led", "qmsum", 128);
    other.seed = 43;
    other.geometric_mean = Reading::measured(20.0);
    let cells = vec![cell("led", "qmsum", 128), other, cell("led", "qasper", 256)];
    let page = html(&study(cells));
    assert!(page.contains("line: mean over seeds") && page.contains("led · seed 43"));
    let ids: Vec<_> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next()).collect();
    assert_eq!(distinct(ids.iter()).len(), ids.len(), "{ids:?}");
}

#[test]
fn the_file_replaces_an_older_one_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, "old").unwrap();
    write(&study(Vec::new()), &path).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("<!doctype html>"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A cell with a score and its interval, trained for some seconds.
fn scored(model: &str, length: u64, score: [f64; 3], seconds: f64) -> Cell {
    let mut one = cell(model, "qmsum", length);
    let [low, at, high] = score.map(Reading::measured);
    (one.score_low, one.geometric_mean, one.score_high) = (low, at, high);
    one.train_seconds = Reading::measured(seconds);
    one
}

#[test]
fn sentences_follow_from_the_numbers() {
    let cells = vec![
        scored("large", 1024, [19.0, 20.0, 21.0], 100.0),
        scored("base", 1024, [14.0, 15.0, 16.0], 50.0),
        scored("base", 4096, [16.5, 17.5, 18.5], 400.0),
    ];
    let text = page(&study(cells));
    assert!(text.contains(
        "On qmsum, large at 1024 tokens beats base at 4096 tokens by 2.50 points for 4.00 times less training time."
    ));
    assert!(text.contains(
        "On qmsum, base gains 2.50 points from 1024 to 4096 tokens for 8.00 times the training time."
    ));
    assert!(text.contains("above all others by more than the 95 % intervals"));
    assert!(text.contains("on the front, cheapest first: base at 1024 tokens; large at 1024 tokens."));
    assert!(text.contains("<li>base at 4096 tokens by large at 1024 tokens</li>"));
}

#[test]
fn nothing_is_claimed_where_intervals_overlap() {
    let cells = vec![
        scored("large", 1024, [15.0, 20.0, 25.0], 100.0),
        scored("base", 1024, [13.0, 15.0, 17.0], 50.0),
        scored("base", 4096, [14.5, 17.5, 20.5], 400.0),
    ];
    let text = page(&study(cells));
    assert!(!text.contains(" tokens beats ") && !text.contains(" gains "));
    assert!(text.contains(
        "the difference between the longest input and the shortest lies within the 95 % intervals: base, 1024 to 4096 \
         tokens, at 8.00 times the training time."
    ));
    assert!(text.contains("its differences from all others lie within the 95 % intervals"));
    assert!(text.contains(
        "beside base at 1024 tokens: large, at 2.00 times the training time, differs from it by no more than \
         the 95 % intervals."
    ));
    assert!(text.contains("by large at 1024 tokens, though their intervals overlap"));
}

/// The sentences on long input.
fn on_long_input(cells: &[Cell]) -> Vec<String> {
    long_input::sentences(&Study::of(cells))
}

/// A dense model at 1024 tokens beside a sparse one at 1024 and 4096, which scores so at 4096.
fn beside_a_baseline(long: [f64; 3]) -> Vec<Cell> {
    let of = |family: &str, cell: Cell| Cell { family: family.into(), ..cell };
    vec![
        of("bart", scored("bart", 1024, [18.0, 20.0, 22.0], 10.0)),
        of("led", scored("led", 1024, [19.0, 21.0, 23.0], 15.0)),
        of("led", scored("led", 4096, long, 60.0)),
    ]
}

#[test]
fn what_long_input_bought_is_said_with_its_price() {
    let cells = beside_a_baseline([70.0, 75.0, 80.0]);
    assert_eq!(
        on_long_input(&cells),
        [
            "On qmsum, long input bought 55.00 points over the dense baseline: led at 4096 tokens scores 75.00 and bart \
          at 1024 tokens 20.00, and their 95 % intervals do not overlap. It took 60.0 s of training time instead \
          of 10.0 s, 125.0 ms of inference time per example instead of 125.0 ms, 1.02 GiB of peak memory instead of \
          1.02 GiB, and energy that no meter measured. At 1024 tokens, led differs from bart by no \
          more than the 95 % intervals."
        ]
    );
    assert!(page(&study(cells)).contains("long input bought 55.00 points over"));
    let mut metered = beside_a_baseline([70.0, 75.0, 80.0]);
    metered
        .iter_mut()
        .for_each(|cell| cell.energy_joules = Reading::measured(40.0 * cell.max_source_length as f64));
    let said = on_long_input(&metered).remove(0);
    assert!(said.contains("164 kJ of training energy instead of 41.0 kJ"), "{said}");
}

#[test]
fn what_long_input_did_not_buy_is_said_too() {
    let said = |long| on_long_input(&beside_a_baseline(long)).remove(0);
    assert!(said([20.0, 23.0, 26.0]).contains("bought nothing that the 95 % intervals tell"));
    assert!(
        said([5.0, 6.0, 7.0]).contains("long input bought nothing: led at 4096"),
        "longer than the baseline"
    );
    // Longer is the point: of sparse models at the baseline's length nothing is said.
    let mut short = beside_a_baseline([1.0, 2.0, 3.0]);
    short.truncate(2);
    assert!(on_long_input(&short).is_empty());
    let mut unlike = beside_a_baseline([70.0, 75.0, 80.0]);
    unlike[0].precision = "bf16".into();
    assert!(on_long_input(&unlike).is_empty(), "another number format is another question");
    let mut one = beside_a_baseline([70.0, 75.0, 80.0]);
    (one[0].score_low, one[0].score_high) = (Reading::absent("one example"), Reading::absent("one example"));
    assert!(on_long_input(&one)[0].contains("is not known, for there is no interval"));
}

#[test]
fn many_disturbed_cells_are_counted_and_few_are_named() {
    let said = |count: usize| {
        let cells = (1..=count as u64).map(|at| {
            let disturbed = format!("reason {at}");
            Cell { disturbed, ..cell("led", "qmsum", 128 * at) }
        });
        sentences(&study(cells.collect()), 1).remove(0)
    };
    assert!(said(2).ends_with("reason 2.") && said(2).contains("2 of 2 cells"), "{}", said(2));
    assert!(
        said(5).ends_with("reason 2; and 3 more, with their reasons in the table of times."),
        "{}",
        said(5)
    );
}

#[test]
fn number_formats_are_compared_pair_by_pair() {
    let bf16 = |cell: Cell| Cell { precision: "bf16".into(), ..cell };
    let mut cells = vec![
        scored("base", 1024, [14.0, 15.0, 16.0], 50.0),
        scored("base", 4096, [18.0, 20.0, 22.0], 80.0),
        bf16(scored("base", 1024, [14.5, 15.5, 16.5], 40.0)),
        bf16(scored("base", 4096, [8.0, 9.0, 10.0], 40.0)),
    ];
    let of = |cells: &[Cell]| precisions::sentences(&Study::of(cells));
    assert_eq!(
        of(&cells),
        [
            "On qmsum, bf16 beside fp32: 1 of 2 scores differ by more than the 95 % intervals: base at 4096 tokens by \
          −11.00; 0.50 to 0.80 times the training time, 1.00 times the peak memory."
        ]
    );
    cells.pop();
    assert!(of(&cells)[0].contains("no score of 1 differs"), "{:?}", of(&cells));
    assert!(of(&cells[..2]).is_empty());
}

#[test]
fn weights_in_8_bits_are_compared_by_what_inference_takes() {
    let int8 = |cell: Cell| Cell {
        weights: Weights::Int8,
        eval_seconds: Reading::measured(4.0),
        eval_samples_per_second: Reading::measured(16.0),
        ..cell
    };
    let bf16 = |cell: Cell| Cell { precision: "bf16".into(), ..cell };
    let base = || scored("base", 1024, [14.0, 15.0, 16.0], 50.0);
    let cells = vec![base(), int8(scored("base", 1024, [8.0, 9.0, 10.0], 50.0))];
    let of = |cells: &[Cell]| precisions::sentences(&Study::of(cells));
    assert_eq!(
        of(&cells),
        [
            "On qmsum, int8 weights beside stored weights: 1 of 1 scores differ by more than the 95 % intervals: base at \
             1024 tokens by −6.00; 0.50 times the inference time per example."
        ]
    );
    // Formats are compared where weights are kept alike, and the other way round.
    let both = [vec![base(), int8(base())], vec![bf16(base()), bf16(int8(base()))]].concat();
    let said = of(&both);
    assert!(said[0].contains("bf16 beside fp32: no score of 2 differs"), "{said:?}");
    assert!(said[1].contains("int8 weights beside stored weights: no score of 2 differs"), "{said:?}");
    assert!(page(&study(cells)).contains("base · int8 weights"));
}

#[test]
fn models_are_compared_at_the_longest_input_that_several_have() {
    let cells = vec![
        scored("large", 4096, [34.0, 35.0, 36.0], 100.0),
        scored("base", 4096, [13.0, 15.0, 17.0], 50.0),
        scored("sparse", 4096, [4.0, 5.5, 7.0], 75.0),
        scored("large", 1024, [18.0, 20.0, 22.0], 30.0),
        scored("base", 1024, [9.0, 10.0, 11.0], 15.0),
        scored("large", 16384, [40.0, 41.0, 42.0], 900.0),
    ];
    let text = page(&study(cells));
    assert!(
        text.contains(
            "beside base at 4096 tokens: large, at 2.00 times the training time, scores 20.00 points more; sparse, at \
             1.50 times the training time, scores 9.50 points less."
        ),
        "{text}"
    );
}

#[test]
fn answers_have_the_fifth_figure_and_energy_the_first_two() {
    let mut answers = scored("led", 1024, [10.0, 20.0, 30.0], 10.0);
    (answers.dataset, answers.headline_metric) = ("qasper".into(), Headline::F1);
    let mut summary = scored("led", 1024, [10.0, 20.0, 30.0], 10.0);
    summary.energy_joules = Reading::measured(5000.0);
    summary.samples_per_second_per_watt = Reading::measured(0.05);
    let text = page(&study(vec![summary, answers]));
    assert!(text.contains("Figure 5. Question answering: qasper"));
    for id in ["figure-power-efficiency", "figure-energy", "figure-training-speed", "figure-inference-speed"]
    {
        assert_eq!(text.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    assert!(text.contains("training samples/s/W") && text.contains("training energy (kJ)"));
    let files: Vec<&str> = text.matches(" download=\"").collect();
    assert!(files.len() > 20, "{}", files.len());
}

/// A phase that took 1 s for every joule, of which nothing is known where there are none.
fn phase(name: &str, pass: &str, seconds: f64, joules: Option<f64>) -> crate::study::results::PhaseTime {
    crate::study::results::PhaseTime {
        phase: name.into(),
        pass: pass.into(),
        seconds: Reading::measured(seconds),
        energy_joules: Reading::or_why(joules, "not told apart, at most 9 J"),
    }
}

#[test]
fn phases_are_bars_where_they_were_timed() {
    let mut one = cell("led", "qmsum", 128);
    one.phases = vec![
        phase("encoder.attention", "forward", 1.0, None),
        phase("encoder.attention", "backward", 2.0, None),
        phase("<b>", "forward", 1.0, None),
    ];
    one.phases_energy_joules = Reading::absent("no counter here");
    let text = page(&study(vec![one]));
    assert!(text.contains("encoder.attention 75 %") && !text.contains("<b>:"));
    assert!(text.contains("Training energy by phase</h3><p>Not drawn: no counter here."));
    assert!(
        page(&study(vec![cell("led", "qmsum", 128)])).contains("phases are timed while training on the CPU")
    );
}

#[test]
fn phases_have_bars_of_energy_where_it_was_told_apart() {
    let mut one = cell("led", "qmsum", 128);
    one.phases = vec![
        phase("encoder.attention", "forward", 1.0, Some(30.0)),
        phase("encoder.attention", "backward", 2.0, Some(20.0)),
        phase("loss", "forward", 7.0, None),
    ];
    one.phases_energy_joules = Reading::measured(200.0);
    let text = page(&study(vec![one]));
    let bar = text.split("phase-energy-desc\">").nth(1).unwrap().split('<').next().unwrap();
    assert_eq!(bar, "led, 128 tokens: encoder.attention 25 %, others, or not told apart 75 %");
    assert!(text.contains(">200 J</text>") && text.contains("id=\"figure-phases\""));
}

#[test]
fn activities_stand_side_by_side() {
    use crate::study::results::Taken;
    let mut one = cell("led", "qmsum", 128);
    let taken = |seconds, joules| Taken {
        seconds: Reading::measured(seconds),
        energy_joules: Reading::measured(joules),
    };
    (one.activities.training, one.activities.whole) = (taken(61.0, 4200.0), taken(77.0, 5300.0));
    let text = page(&study(vec![one]));
    let table = text.split("<caption>Time and energy by activity</caption>").nth(1).unwrap();
    let (head, body) = table.split_once("</thead>").unwrap();
    assert!(head.contains(">training (s)<") && head.contains(">training (kJ)<"), "{head}");
    let row = body.split("</tr>").next().unwrap();
    assert!(
        row.contains("<td>61.0</td><td>4.20</td>") && row.ends_with("<td>77.0</td><td>5.30</td>"),
        "{row}"
    );
}
