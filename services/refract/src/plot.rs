//! Line plots as small SVG texts: what a run's folder and the report show.

use std::fmt::Write as _;

pub(crate) use refract_loadtest::plot::escape;

/// One line of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
/// Room for the labels: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (56.0, 16.0, 28.0, 40.0);
/// Told apart also by those who do not see all colours.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
const TICKS: usize = 5;

/// A plot as an `<svg>` element; points that are no numbers are left out.
pub(crate) fn lines(title: &str, across: &str, series: &[Series]) -> String {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let all: Vec<&(f64, f64)> = series
        .iter()
        .flat_map(|s| s.points.iter())
        .filter(finite)
        .collect();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = all
            .iter()
            .map(|p| of(p))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        match (low.is_finite(), high > low) {
            (false, _) => (0.0, 1.0),
            (true, false) => (low - 0.5, low + 0.5),
            (true, true) => (low, high),
        }
    };
    let (x, y) = (range(|p| p.0), range(|p| p.1));
    let (left, right, top, bottom) = MARGIN;
    let place = |(px, py): (f64, f64)| {
        (
            left + (px - x.0) / (x.1 - x.0) * (WIDTH - left - right),
            HEIGHT - bottom - (py - y.0) / (y.1 - y.0) * (HEIGHT - top - bottom),
        )
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"sans-serif\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{left}\" y=\"16\" font-weight=\"bold\">{}</text>",
        escape(title),
        title = escape(title)
    );
    let mut add = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("writing to a string");
    for n in 0..=TICKS {
        let share = n as f64 / TICKS as f64;
        let value = (x.0 + share * (x.1 - x.0), y.0 + share * (y.1 - y.0));
        let (px, py) = place(value);
        add(format_args!(
            "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{py:.1}\" y2=\"{py:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            WIDTH - right,
            left - 6.0,
            py + 4.0,
            number(value.1),
            HEIGHT - bottom + 14.0,
            number(value.0)
        ));
    }
    add(format_args!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (left + WIDTH - right) / 2.0,
        HEIGHT - 8.0,
        escape(across)
    ));
    for (n, line) in series.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let points: Vec<String> = line
            .points
            .iter()
            .filter(finite)
            .map(|p| place(*p))
            .map(|(px, py)| format!("{px:.1},{py:.1}"))
            .collect();
        add(format_args!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
            points.join(" "),
            WIDTH - right,
            16.0 + 13.0 * n as f64,
            escape(&line.name)
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// One value with its interval; shares, 0 to 1.
#[derive(Clone, Debug)]
pub(crate) struct Whisker {
    pub(crate) name: String,
    /// Which colour: values of one source have the same.
    pub(crate) group: usize,
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Shares with their intervals, one below the other, as an `<svg>` element.
pub(crate) fn whiskers(title: &str, rows: &[Whisker]) -> String {
    const ROW: f64 = 18.0;
    const NAMES: f64 = 300.0;
    let height = 40.0 + ROW * rows.len() as f64;
    let place = |share: f64| NAMES + share.clamp(0.0, 1.0) * (WIDTH - NAMES - 20.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\" \
         font-family=\"sans-serif\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
        escape(title)
    );
    let mut add = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("writing to a string");
    for tick in 0..=TICKS {
        let share = tick as f64 / TICKS as f64;
        let x = place(share);
        add(format_args!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"8\" y2=\"{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>",
            height - 24.0,
            height - 8.0,
            share * 100.0
        ));
    }
    for (n, row) in rows.iter().filter(|row| row.value.is_finite()).enumerate() {
        let (y, colour) = (20.0 + ROW * n as f64, COLOURS[row.group % COLOURS.len()]);
        add(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>",
            NAMES - 8.0,
            y + 4.0,
            escape(&row.name),
            place(row.low),
            place(row.high),
            place(row.value)
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiskers_stay_within_the_frame() {
        let row = |value: f64| Whisker {
            name: "a & b".to_owned(),
            group: 9,
            value,
            low: value - 0.5,
            high: value + 0.5,
        };
        let svg = whiskers("Shares", &[row(0.0), row(f64::NAN), row(1.0)]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a &amp; b") && !svg.contains("NaN"));
    }

    #[test]
    fn every_point_lies_within_the_frame_and_odd_values_do_no_harm() {
        let series = |points: &[(f64, f64)]| Series {
            name: "a <b>".to_owned(),
            points: points.to_vec(),
        };
        for points in [
            vec![],
            vec![(1.0, 2.0)],
            vec![(0.0, 1.0), (5.0, f64::NAN), (10.0, -3.0)],
        ] {
            let svg = lines("Loss & more", "step", &[series(&points)]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.contains("a &lt;b&gt;") && svg.contains("Loss &amp; more"));
            let (_, rest) = svg.split_once("points=\"").unwrap();
            for point in rest.split('"').next().unwrap().split_whitespace() {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y));
            }
        }
    }
}
