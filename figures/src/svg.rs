//! Charts as SVG: plain text, no other file needed, light or dark as the reader's screen is.

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

/// Bars from left to right in named groups, one below the other, from zero, all to one scale.
pub struct Bars {
    /// Above the chart.
    pub title: String,
    /// Below the title, a line each.
    pub notes: Vec<String>,
    /// What the bars of a group are, in their order.
    pub series: Vec<String>,
    /// From top to bottom. One without groups is left out.
    pub parts: Vec<Part>,
    /// Where a line is drawn that bars are compared with.
    pub mark: f64,
}

/// Groups that belong together.
pub struct Part {
    /// Written above them.
    pub name: String,
    /// From top to bottom.
    pub groups: Vec<Group>,
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
/// Told apart by colour-blind readers, too; on either page.
const COLOURS: [&str; 5] = ["#2a7fc0", "#d55e00", "#009e73", "#c46a9a", "#a87b0a"];

/// Colours of a page.
struct Page {
    paper: &'static str,
    /// Words and numbers.
    ink: &'static str,
    /// Words that matter less.
    faint: &'static str,
    /// The line that values are compared with.
    mark: &'static str,
    /// Lines behind the values.
    grid: &'static str,
}

const LIGHT: Page =
    Page { paper: "#ffffff", ink: "#222222", faint: "#666666", mark: "#888888", grid: "#e4e4e4" };
const DARK: Page =
    Page { paper: "#0d1117", ink: "#e6edf3", faint: "#9da7b3", mark: "#7d8590", grid: "#262c36" };

impl Page {
    /// What elements of each class look like.
    fn style(&self) -> String {
        let Page { paper, ink, faint, mark, grid } = self;
        format!(
            ".paper{{fill:{paper}}}.ink{{fill:{ink}}}.faint{{fill:{faint}}}.spread{{stroke:{ink}}}.mark{{stroke:{mark}}}\
             .grid{{stroke:{grid}}}"
        )
    }
}

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
            let class = if value == 1.0 { "mark" } else { "grid" };
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {y:.1}H{:.1}\" class=\"{class}\"/>\
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

// Height of a bar, space between groups, a part's name and numbers with the space above, width of the names
// of groups, room for the number behind a bar.
const BAR: f64 = 11.0;
const GAP: f64 = 9.0;
const HEADING: f64 = 38.0;
const NAMES: f64 = 225.0;
const NUMBER: f64 = 50.0;

impl Bars {
    /// The picture.
    pub fn svg(&self) -> String {
        let parts = || self.parts.iter().filter(|part| !part.groups.is_empty());
        let drawn = || parts().flat_map(|part| &part.groups).flat_map(|group| group.bars.iter().flatten());
        let largest = drawn().fold(self.mark, |m, bar| m.max(bar.spread.map_or(bar.value, |s| s.1)));
        let (step, end) = ticks(largest);
        let at_x = |value: f64| NAMES + (WIDTH - NAMES - NUMBER) * value / end;
        let top = 50.0 + 18.0 * self.notes.len() as f64;
        let height = top + parts().map(|part| HEADING + part.height()).sum::<f64>();
        let mut svg = head(height + 20.0, 20.0, &self.title, &self.notes);
        // writing to a String cannot fail
        let mut x = 20.0;
        for (series, colour) in self.series.iter().zip(COLOURS) {
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{top:.1}\">{}</text>",
                top - 11.0,
                x + 17.0,
                escape(series)
            );
            x += 40.0 + 7.5 * series.chars().count() as f64;
        }
        let mut y = top;
        for part in parts() {
            y += HEADING;
            let bottom = y + part.height();
            let _ = writeln!(
                svg,
                "<text x=\"20\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
                y - 9.0,
                escape(&part.name)
            );
            for i in 0..=(end / step).round() as usize {
                let value = i as f64 * step;
                let _ = writeln!(
                    svg,
                    "<path d=\"M{0:.1} {1:.1}V{bottom:.1}\" class=\"grid\"/>\
                     <text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\" class=\"faint\">{value}</text>",
                    at_x(value),
                    y - 5.0,
                    y - 9.0
                );
            }
            let _ = writeln!(
                svg,
                "<path d=\"M{0:.1} {1:.1}V{bottom:.1}\" class=\"mark\"/>",
                at_x(self.mark),
                y - 5.0
            );
            for group in &part.groups {
                self.group(&mut svg, group, y, &at_x);
                y += group.height();
            }
        }
        svg + "</svg>\n"
    }

    /// Draws the bars of a group from `y` downwards.
    fn group(&self, svg: &mut String, group: &Group, mut y: f64, at_x: &dyn Fn(f64) -> f64) {
        // writing to a String cannot fail
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            NAMES - 8.0,
            y + (group.height() - GAP) / 2.0 + 4.5,
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
                    "<path d=\"M{:.1} {:.1}H{:.1}\" class=\"spread\"/>",
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
    }
}

impl Part {
    /// Without the heading.
    fn height(&self) -> f64 {
        self.groups.iter().map(Group::height).sum()
    }
}

impl Group {
    fn height(&self) -> f64 {
        self.bars.iter().flatten().count() as f64 * BAR + GAP
    }
}

/// The beginning of a picture of this height: title and notes from `left` on.
fn head(height: f64, left: f64, title: &str, notes: &[String]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" class=\"ink\">\n<style>{}@media(prefers-color-scheme:dark){{{}}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" class=\"paper\"/>\n\
         <text x=\"{left}\" y=\"28\" font-size=\"17\" font-weight=\"bold\">{}</text>\n",
        LIGHT.style(),
        DARK.style(),
        escape(title)
    );
    for (at, note) in notes.iter().enumerate() {
        let y = 48 + 18 * at;
        svg += &format!("<text x=\"{left}\" y=\"{y}\" class=\"faint\">{}</text>\n", escape(note));
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
        let part = |name: &str, groups| Part { name: name.into(), groups };
        let spread = Bar { value: 2.0, spread: Some((1.5, 4.0)) };
        let bars = Bars {
            title: "<a>".into(),
            notes: vec!["b & c".into(), "d".into()],
            series: vec!["one".into(), "two".into(), "three".into()],
            parts: vec![
                part("first", vec![Group { name: "x".into(), bars: vec![Some(spread), None, bar(1.0)] }]),
                part("empty", vec![]),
                part("second", vec![Group { name: "y".into(), bars: vec![bar(0.5), bar(0.0), None] }]),
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
        // names of parts above their bars, every one with its own numbers
        let texts = || document.descendants().filter(|node| node.has_tag_name("text"));
        let y = |text: &str| -> f64 {
            let found = texts().find(|node| node.text() == Some(text)).unwrap();
            found.attribute("y").unwrap().parse().unwrap()
        };
        assert!(y("first") < y("x") && y("x") < y("second") && y("second") < y("y"));
        assert!(texts().all(|node| node.text() != Some("empty")));
        assert_eq!(texts().filter(|node| node.text() == Some("4")).count(), 2);
        // all of it within the picture
        let view: Vec<f64> = document
            .root_element()
            .attribute("viewBox")
            .unwrap()
            .split(' ')
            .map(|v| v.parse().unwrap())
            .collect();
        let ends = document.descendants().filter(|node| node.has_tag_name("rect")).map(|rect| {
            let of = |name: &str| rect.attribute(name).map_or(0.0, |v| v.parse::<f64>().unwrap());
            (of("x") + of("width"), of("y") + of("height"))
        });
        assert!(ends.into_iter().all(|(x, y)| x <= view[2] && y <= view[3]));
    }

    /// Relative luminance of a colour, as WCAG has it.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let v = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    /// Words stand out as WCAG wants text to (4.5), bars and lines as it wants graphics to (3), on both
    /// pages.
    #[test]
    fn colours_stand_out_on_either_page() {
        for page in [LIGHT, DARK] {
            let contrast = |colour: &str| {
                let (a, b) = (luminance(colour), luminance(page.paper));
                (a.max(b) + 0.05) / (a.min(b) + 0.05)
            };
            for colour in [page.ink, page.faint] {
                assert!(contrast(colour) >= 4.5, "{colour} on {}: {}", page.paper, contrast(colour));
            }
            for colour in COLOURS.into_iter().chain([page.mark]) {
                assert!(contrast(colour) >= 3.0, "{colour} on {}: {}", page.paper, contrast(colour));
            }
            assert!(contrast(page.grid) < contrast(page.mark));
        }
        let line = Line { name: "a".into(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let words = [(); 4].map(|()| String::new());
        let [title, note, x, y] = words;
        let svg = Chart { title, note, x, y, lines: vec![line] }.svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let style = document.descendants().find(|node| node.has_tag_name("style")).unwrap().text().unwrap();
        let dark = style.split_once("@media(prefers-color-scheme:dark)").unwrap().1;
        assert!(dark.contains(DARK.paper) && dark.contains(DARK.ink) && !dark.contains(LIGHT.paper));
        // nothing but the colours of lines and bars is the same on both
        let fixed =
            document.descendants().flat_map(|node| [node.attribute("fill"), node.attribute("stroke")]);
        let fixed: Vec<&str> = fixed.flatten().filter(|colour| *colour != "none").collect();
        assert!(!fixed.is_empty() && fixed.iter().all(|colour| COLOURS.contains(colour)), "{fixed:?}");
    }
}
