//! The charts that `cargo bench --bench compare -- --plots` draws are right SVG.
//!
//! Must measure nothing.

#[path = "../benches/compare/plot.rs"]
mod plot;

use plot::{Line, Plot, svg};
use roxmltree::{Document, Node};

fn line(name: &str, points: &[(f64, f64)]) -> Line {
    Line { name: name.to_owned(), look: 1, is_thick: true, points: points.to_vec() }
}

fn chart(lines: Vec<Line>) -> String {
    let (title, across, up) = ("A < B & C", "servers", "ms");
    let [title, across, up] = [title, across, up].map(str::to_owned);
    svg(&Plot { title, across, up, lines })
}

fn elements<'a>(document: &'a Document<'a>, name: &'static str) -> Vec<Node<'a, 'a>> {
    document.descendants().filter(|node| node.has_tag_name(name)).collect()
}

#[test]
fn a_chart_names_its_ticks_axes_and_lines_as_text() {
    let text = chart(vec![
        line("one", &[(1.0, 0.25), (10.0, 7.0), (100.0, 30.0), (10_000.0, 4_000.0)]),
        line("two", &[(1.0, 1_000.0)]),
    ]);
    let document = Document::parse(&text).expect("it is XML");
    let words: Vec<&str> = elements(&document, "text").iter().filter_map(Node::text).collect();
    for word in ["A < B & C", "servers", "ms", "one", "two", "0.1", "1", "10", "1,000", "10,000"] {
        assert!(words.contains(&word), "{word} is missing in {words:?}");
    }
}

#[test]
fn a_place_on_an_axis_is_the_logarithm_of_its_value() {
    let text = chart(vec![line("one", &[(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)])]);
    let document = Document::parse(&text).expect("it is XML");
    let drawn = elements(&document, "polyline")[0].attribute("points").unwrap_or_default();
    let numbers: Vec<f64> =
        drawn.split([' ', ',']).map(|number| number.parse().expect("a number")).collect();
    let [x1, y1, x2, y2, x3, y3] = numbers[..] else { panic!("not three points: {drawn}") };
    assert!(x1 < x2 && (x1 + x3 - 2.0 * x2).abs() < 0.2, "not even across: {drawn}");
    assert!(y1 > y2 && (y1 + y3 - 2.0 * y2).abs() < 0.2, "not even upwards: {drawn}");
}

#[test]
fn what_has_no_logarithm_is_left_out() {
    let odd = [(1.0, f64::NAN), (0.0, 5.0), (10.0, -1.0), (10.0, f64::INFINITY), (100.0, 3.0)];
    let text = chart(vec![line("odd", &odd), line("none", &[])]);
    let document = Document::parse(&text).expect("it is XML");
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    let drawn = elements(&document, "polyline")[0].attribute("points").unwrap_or_default();
    assert_eq!(drawn.split(' ').count(), 1, "{drawn}");
}

#[test]
fn a_chart_of_seven_lines_is_below_20_kilobytes_and_has_its_own_background() {
    let points = [(1.0, 0.01), (10.0, 1.0), (100.0, 90.0), (1_000.0, 800.0), (10_000.0, 99_999.0)];
    let text = chart((0..7).map(|_| line("nodemanager", &points)).collect());
    let document = Document::parse(&text).expect("it is XML");
    assert!(text.len() < 20_000, "{} bytes", text.len());
    let background = elements(&document, "rect")[0];
    let size = |node: Node, name: &str| node.attribute(name).unwrap_or_default().to_owned();
    let root = document.root_element();
    for name in ["width", "height"] {
        assert_eq!(size(background, name), size(root, name));
    }
    assert_eq!(background.attribute("fill"), Some("#fff"));
}
