//! Line and scatter plots as SVG text, drawn from plain data.
//!
//! Colours are Okabe and Ito's (2008), distinct for all kinds of colour vision, with black and yellow
//! toned down for white paper; markers differ as well, so that nothing rests on colour. A page sets `--s0`..`--s7`, `--paper`, `--ink`, `--faint` and `--rule` to
//! fit its own light or dark; without them a plot is drawn for white paper.

mod axis;
mod labels;
mod standalone;

pub use axis::{Axis, Scale, Tick};
pub use standalone::file;

use crate::markup::{escape, push};
use crate::reading::Mark;
use labels::{Box2, place};

/// One observation in data units.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub mark: Mark,
    /// The whole observation in words, shown on hover and read aloud.
    pub says: String,
    /// A short label drawn beside the marker where there is room.
    pub tag: Option<String>,
}

/// The points of one colour and marker, joined in the order of `along`.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    /// Which colour and marker; the same number looks the same in every plot.
    pub style: usize,
    pub points: Vec<Point>,
    /// Where the joining line passes, in data units, with how certain its corners are.
    pub line: Vec<(f64, f64, Mark)>,
}

/// A plot ready to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Unique in its page: the text alternative refers to it.
    pub id: String,
    pub title: String,
    pub description: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

const COLOURS: [&str; 8] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D", "#B8A800"];
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 270.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
const RIGHT: f64 = 18.0;
const FONT: f64 = 12.5;

/// The plot as one `<svg>` element. Without points it says so in place of the drawing.
pub fn svg(plot: &Plot) -> String {
    let id = escape(&plot.id);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-desc\" font-size=\"{FONT}\" \
         style=\"font-variant-numeric:tabular-nums\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
        escape(&plot.title),
        escape(&plot.description),
    );
    if plot.series.iter().all(|series| series.points.is_empty()) {
        let (x, y) = (WIDTH / 2.0, HEIGHT / 2.0);
        push(
            &mut out,
            format_args!(
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" style=\"fill:var(--faint,#666)\">no data</text>"
            ),
        );
    } else {
        let frame = Frame::of(plot);
        frame.axes(&mut out, plot);
        for series in &plot.series {
            frame.series(&mut out, series);
        }
        frame.tags(&mut out, plot);
    }
    out.push_str("</svg>");
    out
}

/// The line and marker of a style, for a legend.
pub fn swatch(style: usize, mark: Mark) -> String {
    let mut out = format!(
        "<svg class=\"swatch\" viewBox=\"0 0 34 14\" width=\"34\" height=\"14\" aria-hidden=\"true\" {}>",
        colour(style)
    );
    segment(&mut out, (1.0, 7.0), (33.0, 7.0), mark);
    marker(&mut out, style, (17.0, 7.0), mark, "");
    out.push_str("</svg>");
    out
}

/// Where the data lie within the drawing.
struct Frame<'a> {
    plot: &'a Plot,
    left: f64,
}

impl<'a> Frame<'a> {
    fn of(plot: &'a Plot) -> Self {
        let widest = plot.y.ticks.iter().map(|tick| text_width(&tick.label));
        let left = widest.fold(0.0, f64::max) + 14.0;
        Frame { plot, left }
    }

    fn x(&self, value: f64) -> f64 {
        self.left + self.plot.x.scale.fraction(value) * (WIDTH - RIGHT - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.plot.y.scale.fraction(value) * (HEIGHT - BOTTOM - TOP)
    }

    fn axes(&self, out: &mut String, plot: &Plot) {
        let (left, right, base) = (self.left, WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in &plot.y.ticks {
            let y = self.y(tick.value);
            push(
                out,
                format_args!(
                    "<path d=\"M{left:.1} {y:.1}H{right:.1}\" style=\"stroke:var(--rule,#ddd)\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" style=\"fill:var(--faint,#555)\">{}</text>",
                    left - 8.0,
                    y + 4.2,
                    escape(&tick.label)
                ),
            );
        }
        push(
            out,
            format_args!("<path d=\"M{left:.1} {base:.1}H{right:.1}\" style=\"stroke:var(--faint,#555)\"/>"),
        );
        let mut free_from = f64::NEG_INFINITY;
        for tick in &plot.x.ticks {
            let x = self.x(tick.value);
            push(out, format_args!("<path d=\"M{x:.1} {base:.1}v5\" style=\"stroke:var(--faint,#555)\"/>"));
            let half = text_width(&tick.label) / 2.0;
            if x - half >= free_from {
                push(
                    out,
                    format_args!(
                        "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" style=\"fill:var(--faint,#555)\">{}</text>",
                        base + 19.0,
                        escape(&tick.label)
                    ),
                );
                free_from = x + half + 6.0;
            }
        }
        push(
            out,
            format_args!(
                "<text x=\"0\" y=\"14\" style=\"fill:var(--ink,#111)\">{}</text>\
             <text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\" style=\"fill:var(--ink,#111)\">{}</text>",
                escape(&plot.y.title),
                HEIGHT - 8.0,
                escape(&plot.x.title)
            ),
        );
    }

    fn series(&self, out: &mut String, series: &Series) {
        push(out, format_args!("<g {}>", colour(series.style)));
        for pair in series.line.windows(2) {
            let mark = match (pair[0].2, pair[1].2) {
                (Mark::Measured, Mark::Measured) => Mark::Measured,
                _ => Mark::Predicted,
            };
            let at = |(x, y, _): (f64, f64, Mark)| (self.x(x), self.y(y));
            segment(out, at(pair[0]), at(pair[1]), mark);
        }
        for point in &series.points {
            let at = (self.x(point.x), self.y(point.y));
            marker(out, series.style, at, point.mark, &point.says);
        }
        out.push_str("</g>");
    }

    /// Tags, each where it hides nothing; one that fits nowhere is left to the hover text and the table.
    fn tags(&self, out: &mut String, plot: &Plot) {
        let area = Box2::new(self.left + 1.0, TOP - 12.0, WIDTH, HEIGHT - BOTTOM - 1.0);
        let mut taken = Vec::new();
        for series in &plot.series {
            let markers = series.points.iter();
            taken.extend(markers.map(|p| Box2::around(self.x(p.x), self.y(p.y), 6.0)));
            for pair in series.line.windows(2) {
                for step in 1..16 {
                    let t = f64::from(step) / 16.0;
                    let between = |a: f64, b: f64| a + (b - a) * t;
                    let x = between(self.x(pair[0].0), self.x(pair[1].0));
                    let y = between(self.y(pair[0].1), self.y(pair[1].1));
                    taken.push(Box2::around(x, y, 1.0));
                }
            }
        }
        for point in plot.series.iter().flat_map(|series| &series.points) {
            let Some(tag) = &point.tag else { continue };
            let size = (text_width(tag), FONT);
            let at = (self.x(point.x), self.y(point.y));
            if let Some(found) = place(at, size, &area, &taken) {
                push(
                    out,
                    format_args!(
                        "<text x=\"{:.1}\" y=\"{:.1}\" style=\"fill:var(--ink,#111)\">{}</text>",
                        found.left,
                        found.bottom - 2.5,
                        escape(tag)
                    ),
                );
                taken.push(found.wider(3.0));
            }
        }
    }
}

fn colour(style: usize) -> String {
    let slot = style % COLOURS.len();
    format!("style=\"color:var(--s{slot},{})\"", COLOURS[slot])
}

fn segment(out: &mut String, from: (f64, f64), to: (f64, f64), mark: Mark) {
    let dashes = match mark {
        Mark::Measured => "",
        Mark::Predicted => " stroke-dasharray=\"4 4\"",
    };
    push(
        out,
        format_args!(
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2\" \
         stroke-linecap=\"round\"{dashes}/>",
            from.0, from.1, to.0, to.1
        ),
    );
}

/// Filled when measured, hollow when predicted. After eight styles colours repeat with other markers.
fn marker(out: &mut String, style: usize, at: (f64, f64), mark: Mark, says: &str) {
    let shape = (style + style / COLOURS.len()) % COLOURS.len();
    let outline = match shape {
        0 => "M-4.6 0a4.6 4.6 0 1 0 9.2 0a4.6 4.6 0 1 0 -9.2 0z",
        1 => "M-4.2 -4.2H4.2V4.2H-4.2z",
        2 => "M0 -5.4L5.2 4.2H-5.2z",
        3 => "M0 -6L6 0L0 6L-6 0z",
        4 => "M0 5.4L5.2 -4.2H-5.2z",
        5 => "M-1.9 -5.2H1.9V-1.9H5.2V1.9H1.9V5.2H-1.9V1.9H-5.2V-1.9H-1.9z",
        6 => "M0 -5.6L4.9 -2.8V2.8L0 5.6L-4.9 2.8V-2.8z",
        _ => "M0 -6.4L1.6 -1.9L6.2 -1.9L2.5 1L3.8 5.4L0 2.8L-3.8 5.4L-2.5 1L-6.2 -1.9L-1.6 -1.9z",
    };
    let ink = match mark {
        Mark::Measured => "fill=\"currentColor\" style=\"stroke:var(--paper,#fff)\" stroke-width=\"1\"",
        Mark::Predicted => "stroke=\"currentColor\" style=\"fill:var(--paper,#fff)\" stroke-width=\"1.8\"",
    };
    push(
        out,
        format_args!(
            "<path transform=\"translate({:.1} {:.1})\" d=\"{outline}\" {ink}><title>{}</title></path>",
            at.0,
            at.1,
            escape(says)
        ),
    );
}

/// Width of a text in user units; digits and lower case of the common sans faces are narrower.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT * 0.58
}

#[cfg(test)]
mod tests;
