use super::*;
use crate::study::results::Reading;
use crate::study::results::tests::cell;

fn study(cells: Vec<Cell>) -> Results {
    Results {
        title: "A <b>title</b>".into(),
        environment: vec![("<key>".into(), "\"value\" & more".into())],
        cells,
        ..Results::default()
    }
}

#[test]
fn hostile_names_stay_text() {
    let hostile = "</title></svg><script>alert(1)</script><img src=x onerror='y'>";
    let mut bad = cell(hostile, hostile, 128);
    bad.precision = hostile.into();
    bad.protocol = hostile.into();
    bad.energy_note = hostile.into();
    bad.energy_joules = Reading::absent(hostile);
    let page = html(&study(vec![bad, cell("led", "qmsum", 128)]));
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("onerror='"));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    assert!(page.contains("<dt>&lt;key&gt;</dt><dd>&quot;value&quot; &amp; more</dd>"));
    assert!(page.contains("<h1>A &lt;b&gt;title&lt;/b&gt;</h1>"));
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = html(&study(vec![cell("led", "qmsum", 128)]));
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for way in ["http:", "https:", "url(", "@import", "src=\"", "<script"] {
        assert!(!outside.contains(way), "{way}");
    }
}

#[test]
fn an_empty_study_is_a_page() {
    let page = html(&Results::default());
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
    assert!(page.contains("Energy is not drawn: no sensor."));
    assert!(page.contains("<dt>Best ROUGE geometric mean</dt><dd><b>19.42</b>"));
}

#[test]
fn nothing_is_claimed_about_doubling_without_a_double() {
    let page = html(&study(vec![cell("led", "qmsum", 128), cell("led", "qmsum", 384)]));
    assert!(page.contains("these cells do not tell what doubling costs"));
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
