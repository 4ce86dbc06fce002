use super::*;

fn values(axis: &Axis) -> Vec<f64> {
    axis.ticks.iter().map(|tick| tick.value).collect()
}

fn labels(axis: &Axis) -> Vec<&str> {
    axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
}

#[test]
fn ticks_are_numbers_people_choose() {
    assert_eq!(values(&Axis::from_zero("t", &[7.0, 3.0])), [0.0, 2.0, 4.0, 6.0, 8.0]);
    assert_eq!(labels(&Axis::from_zero("t", &[0.9])), ["0.00", "0.25", "0.50", "0.75", "1.00"]);
    assert_eq!(labels(&Axis::from_zero("t", &[9000.0])), ["0", "2,500", "5,000", "7,500", "10,000"]);
    assert_eq!(labels(&Axis::scores("s", &[20.1, 21.7])), ["19.5", "20.0", "20.5", "21.0", "21.5", "22.0"]);
    assert_eq!(labels(&Axis::scores("s", &[25.0, 100.0])), ["0", "25", "50", "75", "100"]);
    assert_eq!(labels(&Axis::scores("s", &[99.0, 99.99])), ["98.5", "99.0", "99.5", "100.0"]);
    assert_eq!(labels(&Axis::from_zero("t", &[1.0, 100.0])), ["1", "2", "5", "10", "20", "50", "100"]);
    assert_eq!(labels(&Axis::lengths("L", &[512.0, 128.0, 512.0])), ["128", "512"]);
}

#[test]
fn every_value_lies_on_its_axis() {
    let sets: [&[f64]; 7] = [&[], &[0.0], &[5.0], &[1e-9, 2e-9], &[3.0, 3.0], &[0.01, 400.0], &[1e12, 7e15]];
    for set in sets {
        for axis in [Axis::lengths("", set), Axis::from_zero("", set), Axis::scores("", set)] {
            for value in set {
                let at = axis.scale.fraction(*value);
                assert!((0.0..=1.0).contains(&at), "{value} at {at} of {axis:?}");
            }
            let ticks = values(&axis);
            assert!(ticks.is_sorted_by(|a, b| a < b), "{axis:?}");
            assert!(ticks.len() <= 12, "{axis:?}");
        }
    }
}

#[test]
fn lengths_that_double_are_evenly_spaced() {
    let axis = Axis::lengths("L", &[512.0, 1024.0, 2048.0, 4096.0]);
    let at: Vec<f64> = [512.0, 1024.0, 2048.0, 4096.0].map(|v| axis.scale.fraction(v)).into();
    assert!((at[1] - at[0] - (at[3] - at[2])).abs() < 1e-9, "{at:?}");
}

fn plot(points: Vec<Point>) -> Plot {
    let x: Vec<f64> = points.iter().map(|p| p.x).collect();
    let y: Vec<f64> = points.iter().map(|p| p.y).collect();
    let line = points.iter().map(|p| (p.x, p.y, p.mark)).collect();
    Plot {
        id: "p".into(),
        title: "<b>title".into(),
        description: "a & b".into(),
        x: Axis::lengths("tokens", &x),
        y: Axis::from_zero("s", &y),
        series: vec![Series { name: "m".into(), style: 9, points, line }],
    }
}

fn point(x: f64, y: f64, mark: Mark, tag: &str) -> Point {
    Point { x, y, mark, says: format!("<i>{x}"), tag: Some(tag.into()) }
}

#[test]
fn a_plot_has_a_text_alternative_and_escapes_its_texts() {
    let drawn =
        svg(&plot(vec![point(128.0, 1.0, Mark::Measured, "<t>"), point(256.0, 2.0, Mark::Predicted, "256")]));
    assert!(drawn.contains("role=\"img\" aria-labelledby=\"p-title p-desc\""));
    assert!(drawn.contains("&lt;b&gt;title") && drawn.contains("a &amp; b"));
    assert!(drawn.contains("<title>&lt;i&gt;128</title>") && drawn.contains("&lt;t&gt;</text>"));
    assert!(!drawn.contains("<b>") && !drawn.contains("<i>") && !drawn.contains("<t>"));
    assert_eq!(drawn.matches("stroke-dasharray").count(), 1);
}

#[test]
fn no_points_and_one_point_are_drawn() {
    assert!(svg(&plot(Vec::new())).contains("no data"));
    let drawn = svg(&plot(vec![point(128.0, 0.0, Mark::Measured, "128")]));
    assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    assert_eq!(drawn.matches("<title>").count(), 1);
}

#[test]
fn labels_cover_nothing_and_are_dropped_when_they_would() {
    let area = Box2::new(0.0, 0.0, 100.0, 100.0);
    let marker = Box2::around(50.0, 50.0, 6.0);
    let first = place((50.0, 50.0), (20.0, 12.0), &area, &[marker]).unwrap();
    let second = place((50.0, 50.0), (20.0, 12.0), &area, &[marker, first]).unwrap();
    assert!(!first.overlaps(&second) && !first.overlaps(&marker) && !second.overlaps(&marker));
    assert_eq!(place((50.0, 50.0), (20.0, 12.0), &area, &[area]), None);
    assert_eq!(place((50.0, 50.0), (120.0, 12.0), &area, &[]), None);
}

#[test]
fn a_file_of_its_own_names_every_series_and_fits_a_dark_screen() {
    let points = vec![point(128.0, 1.0, Mark::Measured, "a"), point(256.0, 2.0, Mark::Measured, "b")];
    let mut drawn = plot(points.clone());
    for name in ["a long name of a series", "another long name of a series", "<third>"] {
        let line = Vec::new();
        drawn.series.push(Series {
            name: name.into(),
            style: drawn.series.len(),
            points: points.clone(),
            line,
        });
    }
    let text = file(&drawn);
    assert!(text.contains("prefers-color-scheme:dark") && text.contains("&lt;b&gt;title</text>"));
    for name in
        ["a long name of a series</text>", "another long name of a series</text>", "&lt;third&gt;</text>"]
    {
        assert!(text.contains(name), "{name}");
    }
    assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
    assert_eq!(text.matches("class=\"swatch\"").count(), drawn.series.len());
}
