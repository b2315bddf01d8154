//! Charts as SVG: plain text, no other file needed.

use std::fmt::Write;

/// A named line.
pub struct Line {
    /// Written beside its end.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// Lines over one pair of axes, both from zero.
pub struct Chart {
    /// Above the chart.
    pub title: String,
    /// Below the title.
    pub note: String,
    /// What the points' first numbers are.
    pub x: String,
    /// What their second numbers are.
    pub y: String,
    /// At most as many as there are colours, or two look alike.
    pub lines: Vec<Line>,
}

/// Bars from left to right in named groups, one below the other, from zero.
pub struct Bars {
    /// Above the chart.
    pub title: String,
    /// Below the title, a line each.
    pub notes: Vec<String>,
    /// What the bars of a group are, in their order.
    pub series: Vec<String>,
    /// From top to bottom.
    pub groups: Vec<Group>,
    /// Where a line is drawn that bars are compared with.
    pub mark: f64,
}

/// The bars of one thing.
pub struct Group {
    /// Written to the left.
    pub name: String,
    /// One for each of the series; none where there is nothing to show.
    pub bars: Vec<Option<Bar>>,
}

/// A value.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// Length of the bar, written beside its end.
    pub value: f64,
    /// Quartiles, drawn as a thin line.
    pub spread: Option<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
/// Space around the plot: left, right, top, bottom.
const MARGIN: [f64; 4] = [60.0, 130.0, 70.0, 55.0];
/// Told apart by colour-blind readers, too.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b"];

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let (x_step, x_end) = ticks(all().fold(0.0, |m, p| p.0.max(m)));
        let (y_step, y_end) = ticks(all().fold(0.0, |m, p| p.1.max(m)));
        let [left, right, top, bottom] = MARGIN;
        let (w, h) = (WIDTH - left - right, HEIGHT - top - bottom);
        let at_x = |x: f64| left + w * x / x_end;
        let at_y = |y: f64| top + h * (1.0 - y / y_end);
        let mut svg = head(HEIGHT, left, &self.title, std::slice::from_ref(&self.note));
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

// Height of a bar, space between groups, width of the names, room for the number behind a bar.
const BAR: f64 = 11.0;
const GAP: f64 = 9.0;
const NAMES: f64 = 225.0;
const NUMBER: f64 = 50.0;

impl Bars {
    /// The picture.
    pub fn svg(&self) -> String {
        let drawn = || self.groups.iter().flat_map(|group| group.bars.iter().flatten());
        let largest = drawn().fold(self.mark, |m, bar| m.max(bar.spread.map_or(bar.value, |s| s.1)));
        let (step, end) = ticks(largest);
        let top = 92.0 + 18.0 * self.notes.len() as f64;
        let rows: usize = self.groups.iter().map(|group| group.bars.iter().flatten().count()).sum();
        let bottom = top + rows as f64 * BAR + self.groups.len() as f64 * GAP;
        let at_x = |value: f64| NAMES + (WIDTH - NAMES - NUMBER) * value / end;
        let mut svg = head(bottom + 20.0, 20.0, &self.title, &self.notes);
        // writing to a String cannot fail
        let mut x = 20.0;
        for (series, colour) in self.series.iter().zip(COLOURS) {
            let y = top - 40.0;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                y - 11.0,
                x + 17.0,
                escape(series)
            );
            x += 40.0 + 7.5 * series.chars().count() as f64;
        }
        for i in 0..=(end / step).round() as usize {
            let value = i as f64 * step;
            let _ = writeln!(
                svg,
                "<path d=\"M{0:.1} {1:.1}V{bottom:.1}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\" fill=\"#666\">{value}</text>",
                at_x(value),
                top - 5.0,
                top - 9.0
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{0:.1} {1:.1}V{bottom:.1}\" stroke=\"#888\"/>",
            at_x(self.mark),
            top - 5.0
        );
        let mut y = top;
        for group in &self.groups {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                NAMES - 8.0,
                y + (group.bars.iter().flatten().count() as f64 * BAR) / 2.0 + 4.5,
                escape(&group.name)
            );
            for ((bar, series), colour) in group.bars.iter().zip(&self.series).zip(COLOURS) {
                let Some(bar) = bar else { continue };
                let _ = writeln!(
                    svg,
                    "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\">\
                     <title>{}, {}: {:.2}</title></rect>",
                    y + 0.5,
                    at_x(bar.value) - NAMES,
                    BAR - 1.0,
                    escape(&group.name),
                    escape(series),
                    bar.value
                );
                let mut end = at_x(bar.value);
                if let Some((low, high)) = bar.spread {
                    let _ = writeln!(
                        svg,
                        "<path d=\"M{:.1} {:.1}H{:.1}\" stroke=\"#222\"/>",
                        at_x(low),
                        y + BAR / 2.0,
                        at_x(high)
                    );
                    end = end.max(at_x(high));
                }
                let _ = writeln!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{:.2}</text>",
                    end + 4.0,
                    y + BAR - 1.5,
                    bar.value
                );
                y += BAR;
            }
            y += GAP;
        }
        svg + "</svg>\n"
    }
}

/// The beginning of a picture of this height: title and notes from `left` on.
fn head(height: f64, left: f64, title: &str, notes: &[String]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"28\" font-size=\"17\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for (at, note) in notes.iter().enumerate() {
        let y = 48 + 18 * at;
        svg += &format!("<text x=\"{left}\" y=\"{y}\" fill=\"#666\">{}</text>\n", escape(note));
    }
    svg
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
        roxmltree::Document::parse(&svg).unwrap();
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |value| Some(Bar { value, spread: None });
        let spread = Bar { value: 2.0, spread: Some((1.5, 4.0)) };
        let bars = Bars {
            title: "<a>".into(),
            notes: vec!["b & c".into(), "d".into()],
            series: vec!["one".into(), "two".into(), "three".into()],
            groups: vec![
                Group { name: "x".into(), bars: vec![Some(spread), None, bar(1.0)] },
                Group { name: "y".into(), bars: vec![bar(0.5), bar(0.0), None] },
            ],
            mark: 1.0,
        };
        let svg = bars.svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let found: Vec<(f64, &str)> = document
            .descendants()
            .filter(|node| node.has_tag_name("title"))
            .map(|title| {
                let bar = title.parent().unwrap();
                (bar.attribute("width").unwrap().parse().unwrap(), title.text().unwrap())
            })
            .collect();
        let names: Vec<&str> = found.iter().map(|(_, name)| *name).collect();
        assert_eq!(names, ["x, one: 2.00", "x, three: 1.00", "y, one: 0.50", "y, two: 0.00"]);
        let unit = found[1].0;
        for ((width, _), value) in found.iter().zip([2.0, 1.0, 0.5, 0.0]) {
            assert!((width - unit * value).abs() < 0.11, "{width} for {value}, {unit} for 1");
        }
    }
}
