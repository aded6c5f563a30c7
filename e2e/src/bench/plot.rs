//! Figures as an SVG document: panels side by side over one x axis, which is a number of something
//! or time; lines with a mark at each measurement, and bounds dashed.
//!
//! Written by hand: text, lines and circles need no library, and a viewer's own fonts are enough.
//! Writing to a string cannot fail, so what it answers is not looked at.

use std::fmt::Write;

/// Size of a panel, with its texts.
const WIDTH: f64 = 460.0;
/// From a panel's top to its x axis.
const BASE: f64 = 218.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
/// Ticks and the name of the axis.
const TICKS_HEIGHT: f64 = 50.0;
/// A line of the legend.
const LEGEND_LINE: f64 = 15.0;
/// The line below all panels.
const NOTE: f64 = 20.0;
const COLUMNS: usize = 2;
const TICKS: f64 = 5.0;
/// The legend has this many names in a line.
const LEGEND_COLUMNS: usize = 2;
/// Can be told apart, also by those who see few colours, and on light and dark ground.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const GRID: &str = "stroke=\"#dddddd\"";
const BOUND: &str = "stroke=\"#b00000\" stroke-dasharray=\"6 4\"";
const MIDDLE: &str = "text-anchor=\"middle\"";
const END: &str = "text-anchor=\"end\"";

/// Panels over the same x axis.
#[derive(Debug, Clone)]
pub struct Plot {
    /// What x is, with its unit.
    pub x_name: String,
    /// How x grows.
    pub x: Axis,
    /// In rows of two.
    pub panels: Vec<Panel>,
    /// What it was measured on, and when: a line below.
    pub note: String,
}

/// One panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What y is, with its unit.
    pub title: String,
    /// How y grows.
    pub y: Axis,
    /// A value that must not be crossed.
    pub bound: Option<f64>,
    /// Lines; those without points are left out.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// In the order of x.
    pub points: Vec<(f64, f64)>,
}

/// How an axis grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// From 0, evenly.
    Linear,
    /// By powers of ten; what is not above 0 is not drawn.
    Log,
}

impl Plot {
    /// The document.
    pub fn svg(&self) -> String {
        let rows = self.panels.len().div_ceil(COLUMNS);
        let panel_height = self.panel_height();
        let (width, height) = (WIDTH * COLUMNS as f64, panel_height * rows as f64 + NOTE);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        let points = self.panels.iter().flat_map(Panel::points);
        let x = Scale::new(self.x, points.map(|(x, _)| x), LEFT..WIDTH - RIGHT);
        for (number, panel) in self.panels.iter().enumerate() {
            let (left, top) = ((number % COLUMNS) as f64 * WIDTH, (number / COLUMNS) as f64 * panel_height);
            let _ = writeln!(svg, "<g transform=\"translate({left} {top})\">");
            self.draw(panel, &x, &mut svg);
            svg.push_str("</g>\n");
        }
        text(&mut svg, (LEFT, height - 6.0), "fill=\"#666666\"", &self.note);
        svg.push_str("</svg>\n");
        svg
    }

    /// With room for the longest legend.
    fn panel_height(&self) -> f64 {
        let lines = self.panels.iter().map(|panel| panel.drawn().count().div_ceil(LEGEND_COLUMNS)).max();
        BASE + TICKS_HEIGHT + LEGEND_LINE * (lines.unwrap_or_default() as f64)
    }

    fn draw(&self, panel: &Panel, x: &Scale, svg: &mut String) {
        let values = panel.points().map(|(_, y)| y).chain(panel.bound);
        let y = Scale::new(panel.y, values, BASE..TOP);
        text(svg, (LEFT, 20.0), "font-size=\"13\"", &panel.title);
        for tick in x.ticks() {
            line(svg, (x.at(tick), TOP), (x.at(tick), BASE), GRID);
            text(svg, (x.at(tick), BASE + 15.0), MIDDLE, &label(tick));
        }
        for tick in y.ticks() {
            line(svg, (LEFT, y.at(tick)), (WIDTH - RIGHT, y.at(tick)), GRID);
            text(svg, (LEFT - 6.0, y.at(tick) + 4.0), END, &label(tick));
        }
        text(svg, ((LEFT + WIDTH - RIGHT) / 2.0, BASE + 31.0), MIDDLE, &self.x_name);
        if let Some(bound) = panel.bound {
            line(svg, (LEFT, y.at(bound)), (WIDTH - RIGHT, y.at(bound)), BOUND);
            text(svg, (WIDTH - RIGHT, y.at(bound) - 4.0), END, "bound");
        }
        for (number, (series, colour)) in panel.drawn().zip(COLOURS.iter().cycle()).enumerate() {
            draw_series(series, x, &y, colour, svg);
            let column = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
            let left = LEFT + column * (number % LEGEND_COLUMNS) as f64;
            let top = BASE + TICKS_HEIGHT + LEGEND_LINE * (number / LEGEND_COLUMNS) as f64;
            let stroke = format!("stroke=\"{colour}\" stroke-width=\"1.5\"");
            line(svg, (left, top - 4.0), (left + 16.0, top - 4.0), &stroke);
            text(svg, (left + 22.0, top), "", &series.name);
        }
    }
}

impl Panel {
    fn drawn(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| !series.points.is_empty())
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flat_map(|series| series.points.iter().copied())
    }
}

fn draw_series(series: &Series, x: &Scale, y: &Scale, colour: &str, svg: &mut String) {
    let drawable = |&&(right, up): &&(f64, f64)| x.has(right) && y.has(up);
    let places: Vec<_> =
        series.points.iter().filter(drawable).map(|&(right, up)| (x.at(right), y.at(up))).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let path = path.join(" ");
    let _ =
        writeln!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
    // Of a long line, the marks would hide it.
    for (x, y) in places.iter().filter(|_| places.len() <= 50) {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), stroke: &str) {
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {stroke}/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), attributes: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{content}</text>");
}

/// From values to places.
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
    place: std::ops::Range<f64>,
}

impl Scale {
    fn new(axis: Axis, values: impl Iterator<Item = f64>, place: std::ops::Range<f64>) -> Self {
        let drawable = values.filter(|value| value.is_finite() && (axis == Axis::Linear || *value > 0.0));
        let (low, high) =
            drawable.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (1.0, 1.0) } else { (low, high) };
        match axis {
            Axis::Linear => {
                // Of nothing but zeros, too.
                let high = if high > 0.0 { high } else { 1.0 };
                let step = step(high);
                Self { axis, low: 0.0, high: (high / step).ceil().max(1.0) * step, place }
            }
            Axis::Log => {
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                Self { axis, low, high: high.max(low + 1.0), place }
            }
        }
    }

    fn has(&self, value: f64) -> bool {
        value.is_finite() && (self.axis == Axis::Linear || value > 0.0)
    }

    fn at(&self, value: f64) -> f64 {
        let value = if self.axis == Axis::Log { value.log10() } else { value };
        let part = (value - self.low) / (self.high - self.low);
        self.place.start + part * (self.place.end - self.place.start)
    }

    fn ticks(&self) -> Vec<f64> {
        let step = if self.axis == Axis::Log { 1.0 } else { step(self.high) };
        let count = ((self.high - self.low) / step).round() as u32;
        let ticks = (0..=count).map(|number| self.low + f64::from(number) * step);
        ticks.map(|tick| if self.axis == Axis::Log { 10f64.powf(tick) } else { tick }).collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that some five of them reach `high`.
fn step(high: f64) -> f64 {
    let power = 10f64.powf((high / TICKS).log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power * TICKS >= high * 0.999);
    times.unwrap_or(10.0) * power
}

/// A number, short.
fn label(value: f64) -> String {
    match value {
        1e6.. => format!("{}M", rounded(value / 1e6)),
        1e3.. => format!("{}k", rounded(value / 1e3)),
        _ => rounded(value).to_string(),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let ticks = |axis, values: &[f64]| Scale::new(axis, values.iter().copied(), 0.0..100.0).ticks();
        let labels = |ticks: Vec<f64>| ticks.into_iter().map(label).collect::<Vec<_>>().join(" ");
        for (values, expected) in [
            (&[3.0, 4.6][..], "0 1 2 3 4 5"),
            (&[4096.0], "0 1k 2k 3k 4k 5k"),
            (&[0.93], "0 0.2 0.4 0.6 0.8 1"),
            (&[12_100.0, 5_000.0], "0 5k 10k 15k"),
            (&[0.0], "0 0.2 0.4 0.6 0.8 1"),
        ] {
            assert_eq!(labels(ticks(Axis::Linear, values)), expected, "{values:?}");
        }
        for (values, expected) in [
            (&[100.0, 1_000_000.0][..], "100 1k 10k 100k 1M"),
            (&[0.04, 0.0, 3.0], "0.01 0.1 1 10"),
            (&[10.0], "10 100"),
            (&[], "1 10"),
        ] {
            assert_eq!(labels(ticks(Axis::Log, values)), expected, "{values:?}");
        }
    }

    #[test]
    fn values_have_places() {
        let log = Scale::new(Axis::Log, [10.0, 1000.0].into_iter(), 0.0..100.0);
        assert_eq!([10.0, 100.0, 1000.0].map(|value| log.at(value).round()), [0.0, 50.0, 100.0]);
        let down = Scale::new(Axis::Linear, [5.0].into_iter(), 200.0..0.0);
        assert_eq!([0.0, 2.5, 5.0].map(|value| down.at(value).round()), [200.0, 100.0, 0.0]);
    }

    #[test]
    fn every_point_of_every_series_is_drawn() {
        let points = vec![(10.0, 1.0), (100.0, 0.0), (1000.0, 3.0)];
        let series =
            |name: &str, points: &[(f64, f64)]| Series { name: name.to_owned(), points: points.to_vec() };
        let panel = |title: &str, y, bound| Panel {
            title: title.to_owned(),
            y,
            bound,
            series: vec![series("a<b", &points), series("nobody", &[])],
        };
        let panels = vec![panel("one", Axis::Linear, Some(2.0)), panel("two", Axis::Log, None)];
        let note = "this machine".to_owned();
        let svg = Plot { x_name: "locks".to_owned(), x: Axis::Log, panels, note }.svg();
        assert!(svg.contains("this machine"), "{svg}");
        // 0 has no place on a logarithmic axis.
        assert_eq!(svg.matches("<circle").count(), 3 + 2);
        assert_eq!(svg.matches("stroke-dasharray").count(), 1);
        assert_eq!(svg.matches("a&lt;b").count(), 2);
        assert!(!svg.contains("nobody") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
