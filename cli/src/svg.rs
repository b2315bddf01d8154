//! Line charts as SVG: plain text, no other file needed.

use std::fmt::Write;

/// A named line.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over one pair of axes, both from zero.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) note: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
/// Space around the plot: left, right, top, bottom.
const MARGIN: [f64; 4] = [60.0, 130.0, 70.0, 55.0];
/// Told apart by colour-blind readers, too.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

impl Chart {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let (x_step, x_end) = ticks(all().fold(0.0, |m, p| p.0.max(m)));
        let (y_step, y_end) = ticks(all().fold(0.0, |m, p| p.1.max(m)));
        let [left, right, top, bottom] = MARGIN;
        let (w, h) = (WIDTH - left - right, HEIGHT - top - bottom);
        let at_x = |x: f64| left + w * x / x_end;
        let at_y = |y: f64| top + h * (1.0 - y / y_end);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{left}\" y=\"28\" font-size=\"17\" font-weight=\"bold\">{}</text>\n\
             <text x=\"{left}\" y=\"48\" fill=\"#666\">{}</text>\n",
            escape(&self.title),
            escape(&self.note)
        );
        // writing to a String cannot fail
        for i in 0..=(x_end / x_step).round() as usize {
            let value = i as f64 * x_step;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
                at_x(value),
                top + h + 20.0
            );
        }
        for i in 0..=(y_end / y_step).round() as usize {
            let value = i as f64 * y_step;
            let y = at_y(value);
            let colour = if value == 1.0 { "#888" } else { "#e4e4e4" };
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {y:.1}H{:.1}\" stroke=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                left + w,
                left - 8.0,
                y + 4.5
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            left + w / 2.0,
            HEIGHT - 12.0,
            escape(&self.x),
            top + h / 2.0,
            escape(&self.y)
        );
        // names beside the ends of their lines, at least a line apart, the highest first
        let mut ends: Vec<(usize, f64)> = self
            .lines
            .iter()
            .enumerate()
            .map(|(i, line)| (i, at_y(line.points.last().map_or(0.0, |p| p.1))))
            .collect();
        ends.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut above = f64::NEG_INFINITY;
        for (i, y) in ends {
            let (line, colour) = (&self.lines[i], COLOURS[i % COLOURS.len()]);
            let mut path = String::new();
            for (n, (x, y)) in line.points.iter().enumerate() {
                let _ = write!(path, "{}{:.1} {:.1}", if n == 0 { "M" } else { "L" }, at_x(*x), at_y(*y));
            }
            let _ =
                writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>");
            for (x, y) in &line.points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}: {x} {y:.2}</title></circle>",
                    at_x(*x),
                    at_y(*y),
                    escape(&line.name)
                );
            }
            let y = y.max(above + 18.0);
            above = y;
            let x = line.points.last().map_or(left, |p| at_x(p.0)) + 10.0;
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\" font-weight=\"bold\">{}</text>",
                y + 4.5,
                escape(&line.name)
            );
        }
        svg + "</svg>\n"
    }
}

/// A round step for some five ticks, and the first of them that is not below `largest`.
fn ticks(largest: f64) -> (f64, f64) {
    let largest = if largest > 0.0 { largest } else { 1.0 };
    let rough = largest / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|s| s * power >= rough).unwrap_or(10.0) * power;
    (step, (largest / step).ceil() * step)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(95.0), (20.0, 100.0));
        assert_eq!(ticks(4.2), (1.0, 5.0));
        assert_eq!(ticks(0.0), (0.2, 1.0));
    }

    #[test]
    fn names_cannot_break_out() {
        let line = Line { name: "<b>".into(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let chart = Chart {
            title: "a & b".into(),
            note: String::new(),
            x: String::new(),
            y: String::new(),
            lines: vec![line],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;b&gt;") && !svg.contains("<b>"), "{svg}");
    }
}
