//! A plot as a file of its own: with a legend, and with colours for a light and for a dark screen.

use super::{FONT, HEIGHT, Plot, WIDTH, svg, swatch, text_width};
use crate::markup::{escape, push};
use crate::reading::Mark;

/// Factor over the size that a report's column has.
const SCALE: f64 = 1.6;
const MARGIN: f64 = 20.0;
const TITLE: f64 = 34.0;
const LINE: f64 = 26.0;
/// Pixels of the legend's letters, and how much wider they are than the axes'.
const LETTERS: f64 = 16.0;
const WIDER: f64 = LETTERS / FONT;
/// Colours as the report's page has them.
const STYLE: &str = "svg{--paper:#fff;--ink:#16191d;--faint:#5b636d;--rule:#e3e6ea;font-family:system-ui,sans-serif}\
@media(prefers-color-scheme:dark){svg{--paper:#14171b;--ink:#e7eaee;--faint:#9aa4af;--rule:#2c323a;--s0:#56b4e9;\
--s1:#f0813a;--s2:#1fbf92;--s3:#dd93bb;--s4:#e69f00;--s5:#3d8fd1;--s6:#c4cad1;--s7:#f0e442}}";

/// The plot with its title and a legend of its series, as the text of an SVG file.
pub fn file(plot: &Plot) -> String {
    let (width, height) = (SCALE * WIDTH + 2.0 * MARGIN, SCALE * HEIGHT);
    let legend = legend(plot, width - MARGIN);
    let whole = TITLE + MARGIN + height + legend.height + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {whole}\" width=\"{width}\" \
         height=\"{whole}\" font-size=\"{LETTERS}\"><style>{STYLE}</style>\
         <rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\
         <text x=\"{MARGIN}\" y=\"{TITLE}\" font-size=\"20\" font-weight=\"600\" style=\"fill:var(--ink)\">{}</text>",
        escape(&plot.title)
    );
    push(
        &mut out,
        format_args!(
            "<svg x=\"{MARGIN}\" y=\"{}\" width=\"{}\" height=\"{height}\">{}</svg>",
            TITLE + MARGIN,
            width - 2.0 * MARGIN,
            svg(plot)
        ),
    );
    push(
        &mut out,
        format_args!(
            "<g transform=\"translate(0 {})\">{}</g></svg>\n",
            TITLE + MARGIN + height,
            legend.drawn
        ),
    );
    out
}

struct Legend {
    drawn: String,
    height: f64,
}

/// The name of each series beside its line, in as many lines as they take up to `right`.
fn legend(plot: &Plot, right: f64) -> Legend {
    const SWATCH: f64 = 42.0;
    let (mut x, mut y, mut drawn) = (MARGIN, LINE, String::new());
    // A line without points, such as an interval's bar, is not told apart by a name.
    for series in plot.series.iter().filter(|series| !series.points.is_empty()) {
        let wide = SWATCH + WIDER * text_width(&series.name) + MARGIN;
        if x > MARGIN && x + wide > right {
            (x, y) = (MARGIN, y + LINE);
        }
        push(
            &mut drawn,
            format_args!(
                "<g transform=\"translate({x:.1} {:.1})\">{}</g>\
                 <text x=\"{:.1}\" y=\"{y:.1}\" style=\"fill:var(--ink)\">{}</text>",
                y - 12.0,
                swatch(series.style, Mark::Measured),
                x + SWATCH,
                escape(&series.name)
            ),
        );
        x += wide;
    }
    Legend { drawn, height: y }
}
