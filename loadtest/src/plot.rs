//! Line plots as SVG text: no script, no font, no file beside it.

use std::fmt::Write as _;

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A plot with its axes. Points that are not finite are left out.
#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    pub x: String,
    pub y: String,
    pub lines: Vec<Line>,
    /// Each step of the axis is ten times the one before; values of 0 and below are left out.
    pub log_x: bool,
    pub log_y: bool,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;
/// Told apart by people who see few colours, too (after Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555",
];

impl Plot {
    /// The plot as one `<svg>` element.
    pub fn svg(&self) -> String {
        let sound = |(x, y): &(f64, f64)| {
            x.is_finite() && y.is_finite() && (!self.log_x || *x > 0.0) && (!self.log_y || *y > 0.0)
        };
        let lines: Vec<(&str, Vec<(f64, f64)>)> = self
            .lines
            .iter()
            .map(|line| {
                (
                    line.name.as_str(),
                    line.points.iter().copied().filter(sound).collect(),
                )
            })
            .collect();
        let all = || lines.iter().flat_map(|(_, points)| points);
        let x = Axis::over(all().map(|(x, _)| *x), self.log_x);
        let y = Axis::over(all().map(|(_, y)| *y), self.log_y);
        let at_x = |value| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
        let at_y = |value| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"16\" font-size=\"13\" font-weight=\"bold\">{title}</text>\n",
            title = escape(&self.title)
        );
        for tick in x.ticks() {
            let (at, bottom) = (at_x(tick), HEIGHT - BOTTOM);
            let _infallible = writeln!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{bottom:.1}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 14.0,
                number(tick)
            );
        }
        for tick in y.ticks() {
            let (at, right) = (at_y(tick), WIDTH - RIGHT);
            let _infallible = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{right:.1}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(tick)
            );
        }
        let _infallible = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 8.0,
            escape(&self.x),
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            escape(&self.y)
        );
        for (n, (name, points)) in lines.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let mut path = String::new();
            for (i, (px, py)) in points.iter().enumerate() {
                let step = if i == 0 { 'M' } else { 'L' };
                let _infallible = write!(path, "{step}{:.1} {:.1}", at_x(*px), at_y(*py));
            }
            let _infallible = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>"
            );
            if points.len() <= 30 {
                for (px, py) in points {
                    let _infallible = writeln!(
                        svg,
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\" fill=\"{colour}\"/>",
                        at_x(*px),
                        at_y(*py)
                    );
                }
            }
            let row = TOP + 14.0 + 15.0 * n as f64;
            let _infallible = writeln!(
                svg,
                "<path d=\"M{:.1} {:.1}h16\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <text x=\"{:.1}\" y=\"{row:.1}\">{}</text>",
                LEFT + 8.0,
                row - 4.0,
                LEFT + 29.0,
                escape(name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// From the least to the most of what is drawn, rounded outwards.
struct Axis {
    from: f64,
    to: f64,
    is_log: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, is_log: bool) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            return Self {
                from: if is_log { 1.0 } else { 0.0 },
                to: if is_log { 10.0 } else { 1.0 },
                is_log,
            };
        }
        if is_log {
            let (from, to) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
            let to = if to > from { to } else { from * 10.0 };
            return Self { from, to, is_log };
        }
        let high = if high > 0.0 { high } else { 1.0 };
        let step = step(high);
        Self {
            from: low.min(0.0),
            to: (high / step).ceil() * step,
            is_log,
        }
    }

    /// 0 at its beginning, 1 at its end.
    fn place(&self, value: f64) -> f64 {
        if self.is_log {
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        }
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let mut tick = self.from;
        let step = step(self.to);
        while tick <= self.to * (1.0 + 1e-9) {
            ticks.push(tick);
            tick = if self.is_log { tick * 10.0 } else { tick + step };
        }
        ticks
    }
}

/// 1, 2 or 5 times a power of ten, so that at most ten of them reach `high`.
fn step(high: f64) -> f64 {
    let power = 10f64.powf((high / 10.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|n| n * power)
        .find(|step| high / step <= 10.0)
        .unwrap_or(high)
}

fn number(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        big if big >= 1e6 => (value / 1e6, "M"),
        big if big >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Text that can stand in HTML and in SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, log: bool) -> String {
        Plot {
            title: "a < b".to_owned(),
            x: "x".to_owned(),
            y: "y".to_owned(),
            lines: vec![Line {
                name: "one & only".to_owned(),
                points,
            }],
            log_x: log,
            log_y: log,
        }
        .svg()
    }

    #[test]
    fn whatever_is_drawn_stays_inside_and_is_escaped() {
        for (points, log) in [
            (vec![(0.0, 0.0), (10.0, 250.0)], false),
            (vec![(0.0, 1.0), (f64::NAN, 2.0), (1e5, 1e-3)], true),
            (vec![], false),
            (vec![], true),
            (vec![(5.0, 5.0)], true),
            (vec![(0.0, 0.0)], false),
        ] {
            let svg = plot(points.clone(), log);
            assert!(
                svg.contains("a &lt; b") && svg.contains("one &amp; only"),
                "{svg}"
            );
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{points:?}: {svg}");
            assert!(svg.ends_with("</svg>\n"));
        }
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            Axis::over([0.0, 47.0].into_iter(), false).ticks(),
            [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0]
        );
        assert_eq!(
            Axis::over([3.0, 200.0].into_iter(), true).ticks(),
            [1.0, 10.0, 100.0, 1000.0]
        );
        assert_eq!([number(0.5), number(12_000.0), number(2e6)], ["0.5", "12k", "2M"]);
    }
}
