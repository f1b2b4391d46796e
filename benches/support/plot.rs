//! Plots as SVG: bars and lines, drawn from zero, with every figure written beside what shows it.

use std::fmt::Write;
use std::path::PathBuf;

use super::Result;
use super::stats::{float, thousands};

const WIDTH: f64 = 760.0;
const COLOURS: [&str; 5] = ["#1f5f8b", "#c8553d", "#5b8c5a", "#8a6fa8", "#b08a2e"];

/// Writes a plot into `docs/plots`, and says so.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save(name: &str, svg: &str) -> Result {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/plots");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("{name}.svg")), svg)?;
    println!("wrote docs/plots/{name}.svg");
    Ok(())
}

/// A bar for each label; they begin at zero, so that lengths compare as the figures do.
pub(crate) fn bars(title: &str, unit: &str, bars: &[(String, f64)]) -> String {
    let (left, top, step) = (190.0, 56.0, 30.0);
    let height = top + step * float(bars.len() as u64) + 16.0;
    let most = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = begin(height, title, unit);
    for (index, (label, value)) in bars.iter().enumerate() {
        let y = top + step * float(index as u64);
        let length = (WIDTH - left - 110.0) * value / most;
        text(&mut svg, (left - 8.0, y + 15.0), "end", label);
        let colour = COLOURS[0];
        writeln!(svg, r#"<rect x="{left}" y="{y}" width="{length:.1}" height="20" fill="{colour}"/>"#)
            .expect("writing to a String does not fail");
        text(&mut svg, (left + length + 6.0, y + 15.0), "start", &shown(*value));
    }
    svg + "</svg>\n"
}

/// A line per series over the same labels, which stand at equal distances, whatever they say; the vertical axis begins
/// at zero.
pub(crate) fn lines(
    title: &str,
    unit: &str,
    across: &str,
    labels: &[String],
    series: &[(String, Vec<f64>)],
) -> String {
    let (left, right, top, bottom) = (90.0, WIDTH - 40.0, 80.0, 330.0);
    let most = series.iter().flat_map(|(_, values)| values).copied().fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let x = |index: usize| {
        left + (right - left) * (float(index as u64) + 0.5) / float(labels.len().max(1) as u64)
    };
    let y = |value: f64| bottom - (bottom - top) * value / most;
    let mut svg = begin(390.0, title, unit);
    for quarter in 0..=4_u32 {
        let value = most * f64::from(quarter) / 4.0;
        let at = y(value);
        writeln!(svg, r##"<line x1="{left}" y1="{at:.1}" x2="{right}" y2="{at:.1}" stroke="#ddd"/>"##)
            .expect("writing to a String does not fail");
        text(&mut svg, (left - 8.0, at + 4.0), "end", &shown(value));
    }
    for (index, label) in labels.iter().enumerate() {
        text(&mut svg, (x(index), bottom + 20.0), "middle", label);
    }
    text(&mut svg, (f64::midpoint(left, right), bottom + 44.0), "middle", across);
    for (number, (name, values)) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(index, value)| format!("{:.1},{:.1}", x(index), y(*value)))
            .collect();
        writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            points.join(" ")
        )
        .expect("writing to a String does not fail");
        for (index, value) in values.iter().enumerate() {
            writeln!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#, x(index), y(*value))
                .expect("writing to a String does not fail");
            text(&mut svg, (x(index), y(*value) - 8.0), "middle", &shown(*value));
        }
        let at = left + 160.0 * float(number as u64);
        writeln!(svg, r#"<rect x="{at}" y="58" width="12" height="12" fill="{colour}"/>"#)
            .expect("writing to a String does not fail");
        text(&mut svg, (at + 18.0, 68.0), "start", name);
    }
    svg + "</svg>\n"
}

fn begin(height: f64, title: &str, unit: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"16\" y=\"24\" \
         font-size=\"16\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    text(&mut svg, (16.0, 44.0), "start", unit);
    svg
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = escaped(text);
    writeln!(svg, r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="#333">{text}</text>"##)
        .expect("writing to a String does not fail");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Enough digits to compare, and no more.
fn shown(value: f64) -> String {
    match value {
        value if value >= 100.0 => thousands(value),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
