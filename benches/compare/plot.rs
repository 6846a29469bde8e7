//! A log-log chart as SVG text.
//!
//! Must stay pure: it knows neither what is measured nor where the text goes, and takes anything
//! that is not above zero for "no figure".

use std::fmt::Write as _;

/// A line of a chart: `look` chooses its colour and marker, so that it has the same in all charts.
pub struct Line {
    pub name: String,
    pub look: usize,
    pub is_thick: bool,
    pub points: Vec<(f64, f64)>,
}

pub struct Plot {
    pub title: String,
    pub across: String,
    pub up: String,
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 562.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 372.0;
/// Told apart by colour-blind readers too (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#555555", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#b58900"];
const GREY: &str = "#333";

/// One axis: whole powers of ten from `low` to `high`, drawn between two places.
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (least, most) = values
            .fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), value| {
                (least.min(value), most.max(value))
            });
        // No point at all: 1 to 10.
        let (least, most) = if most > 0.0 { (least, most) } else { (1.0, 10.0) };
        // Beyond that no tick can be read.
        let low = least.log10().floor().clamp(-6.0, 12.0) as i32;
        let high = most.log10().ceil().clamp(-6.0, 12.0) as i32;
        Axis { low, high: high.max(low + 1), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Where a whole power of ten is, and what it is called.
    fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        (self.low..=self.high).map(|power| (self.at(10f64.powi(power)), tick(power)))
    }

    /// Where 2 to 9 times each of them are.
    fn between(&self) -> impl Iterator<Item = f64> {
        let powers = self.low..self.high;
        powers
            .flat_map(move |power| (2..10).map(move |n| self.at(f64::from(n) * 10f64.powi(power))))
    }
}

/// 0.01, 1, 1,000
fn tick(power: i32) -> String {
    match usize::try_from(power) {
        Err(_) => format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power)),
        Ok(zeros) => {
            let digits = format!("1{}", "0".repeat(zeros));
            let comma =
                |at: usize| if at > 0 && (digits.len() - at).is_multiple_of(3) { "," } else { "" };
            digits.char_indices().map(|(at, digit)| format!("{}{digit}", comma(at))).collect()
        }
    }
}

/// The whole file.
pub fn svg(plot: &Plot) -> String {
    let points = || plot.lines.iter().flat_map(|line| drawable(&line.points));
    let across = Axis::new(points().map(|(x, _)| x), LEFT, RIGHT);
    let up = Axis::new(points().map(|(_, y)| y), BOTTOM, TOP);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"{GREY}\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    grid(&mut text, &across, &up);
    let (title, below, beside) = (escaped(&plot.title), escaped(&plot.across), escaped(&plot.up));
    let (middle, height) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
    let _ = write!(
        text,
        "<text x=\"{LEFT}\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{below}</text>\n\
         <text transform=\"translate(18 {height}) rotate(-90)\" text-anchor=\"middle\">{beside}</text>\n",
        BOTTOM + 42.0
    );
    for (at, line) in plot.lines.iter().enumerate() {
        draw(&mut text, line, &across, &up);
        legend(&mut text, line, TOP + 10.0 + 22.0 * at as f64);
    }
    text + "</svg>\n"
}

fn drawable(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let is_right = |value: f64| value.is_finite() && value > 0.0;
    points.iter().copied().filter(move |(x, y)| is_right(*x) && is_right(*y))
}

fn grid(text: &mut String, across: &Axis, up: &Axis) {
    let fine = across.between().map(|x| format!("M{x:.1} {TOP}V{BOTTOM}"));
    let fine: String =
        fine.chain(up.between().map(|y| format!("M{LEFT} {y:.1}H{RIGHT}"))).collect();
    let bold = across.ticks().map(|(x, _)| format!("M{x:.1} {TOP}V{}", BOTTOM + 5.0));
    let bold = bold.chain(up.ticks().map(|(y, _)| format!("M{} {y:.1}H{RIGHT}", LEFT - 5.0)));
    let bold: String = bold.collect();
    let _ = write!(
        text,
        "<path d=\"{fine}\" stroke=\"#eee\"/>\n<path d=\"{bold}\" stroke=\"#bbb\"/>\n\
         <path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" stroke=\"{GREY}\" fill=\"none\"/>\n"
    );
    for (x, name) in across.ticks() {
        let y = BOTTOM + 20.0;
        let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{name}</text>");
    }
    for (y, name) in up.ticks() {
        let (x, y) = (LEFT - 9.0, y + 4.5);
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{name}</text>");
    }
}

fn draw(text: &mut String, line: &Line, across: &Axis, up: &Axis) {
    let places: Vec<(f64, f64)> =
        drawable(&line.points).map(|(x, y)| (across.at(x), up.at(y))).collect();
    let through: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let (colour, width) = stroke(line);
    let _ = writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
        through.join(" ")
    );
    places.iter().for_each(|(x, y)| marker(text, line, *x, *y));
}

fn legend(text: &mut String, line: &Line, y: f64) {
    let (colour, width) = stroke(line);
    let (from, to) = (RIGHT + 14.0, RIGHT + 40.0);
    let _ = writeln!(
        text,
        "<path d=\"M{from} {y}H{to}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
    );
    marker(text, line, RIGHT + 27.0, y);
    let (x, y, name) = (RIGHT + 48.0, y + 4.5, escaped(&line.name));
    let weight = if line.is_thick { " font-weight=\"bold\"" } else { "" };
    let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\"{weight}>{name}</text>");
}

fn stroke(line: &Line) -> (&'static str, f64) {
    let colour = COLOURS[line.look % COLOURS.len()];
    (colour, if line.is_thick { 3.0 } else { 1.6 })
}

/// Circle, square or diamond.
fn marker(text: &mut String, line: &Line, x: f64, y: f64) {
    let (colour, _) = stroke(line);
    let shape = match line.look % 3 {
        0 => format!("M{:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", x - 4.0),
        1 => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
        _ => format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0),
    };
    let _ = writeln!(text, "<path d=\"{shape}\" fill=\"{colour}\"/>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
