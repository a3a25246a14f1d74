//! What all plots share: a white canvas, its texts, axes of logarithms, and a legend beside the lines.
//!
//! Positions on an axis are logarithms already, so that the ticks are ours: round numbers, few enough to read.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A part of a plot to draw on.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a plot of `size` pixels with `draw` and returns its SVG.
pub(super) fn svg(
    size: (u32, u32),
    title: &str,
    subtitle: &str,
    draw: impl FnOnce(&Area) -> Result<()>,
) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        // Readers with a dark page see the same plot.
        root.fill(&WHITE).map_err(failed)?;
        root.draw(&label(title, (MARGIN, 26), 19.0, INK, HPos::Left)).map_err(failed)?;
        root.draw(&label(subtitle, (MARGIN, 48), 12.0, PALE, HPos::Left)).map_err(failed)?;
        let (_, below) = root.split_vertically(HEAD);
        draw(&below)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

/// One axis: the range and the ticks in its own coordinates, and how a tick reads.
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) ticks: Vec<f64>,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) write: fn(f64) -> String,
}

impl Axis {
    /// An axis of powers of ten around positive `values`; with few of them 2 and 5 have ticks too.
    pub(super) fn decades(name: &str, values: impl Iterator<Item = f64>, write: fn(f64) -> String) -> Axis {
        let (low, high) = range(values.map(f64::log10));
        let (low, high) = (low - 0.08 * (high - low).max(0.5), high + 0.08 * (high - low).max(0.5));
        let steps: &[f64] = if high - low > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = low.floor() as i32..=high.ceil() as i32;
        let ticks = powers.flat_map(|power| steps.iter().map(move |step| f64::from(power) + step.log10()));
        let ticks = ticks.filter(|tick| (low..=high).contains(tick)).collect();
        Axis { name: name.to_owned(), ticks, low, high, write }
    }

    fn scale(&self) -> Scale {
        Scale { low: self.low, high: self.high, ticks: self.ticks.clone() }
    }
}

/// One line of a plot, and its row in the legend.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Draws `lines` between their axes. The look of a line depends on its place in the list.
pub(super) fn lines(area: &Area, x: &Axis, y: &Axis, lines: &[Line], dots: bool) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .margin_left(16)
        .margin_right(12)
        .margin_top(8)
        .margin_bottom(10)
        .x_label_area_size(46)
        .y_label_area_size(68)
        .build_cartesian_2d(x.scale(), y.scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(PALE)
        .x_desc(x.name.as_str())
        .y_desc(y.name.as_str())
        .x_labels(x.ticks.len())
        .y_labels(y.ticks.len())
        .x_label_formatter(&|value| (x.write)(*value))
        .y_label_formatter(&|value| (y.write)(*value))
        .label_style((FONT, 12).into_font().color(&INK))
        .axis_desc_style((FONT, 13).into_font().color(&INK))
        .draw()
        .map_err(failed)?;
    for (index, line) in lines.iter().enumerate() {
        let points = line.points.iter().copied();
        if dashed(index) {
            chart.draw_series(DashedLineSeries::new(points, 6, 4, stroke(index))).map_err(failed)?;
        } else {
            chart.draw_series(LineSeries::new(points, stroke(index))).map_err(failed)?;
        }
        if dots {
            let dots = line.points.iter().map(|point| Circle::new(*point, 4, colour(index).filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
    }
    Ok(())
}

/// Draws the names of `lines` below one another.
pub(super) fn legend(area: &Area, lines: &[Line]) -> Result<()> {
    for (index, line) in lines.iter().enumerate() {
        let y = 24 + 21 * index as i32;
        let strokes: &[(i32, i32)] = if dashed(index) { &[(8, 15), (19, 26), (30, 36)] } else { &[(8, 36)] };
        for (from, to) in strokes {
            area.draw(&PathElement::new(vec![(*from, y), (*to, y)], stroke(index))).map_err(failed)?;
        }
        area.draw(&label(&line.name, (44, y), 12.0, INK, HPos::Left)).map_err(failed)?;
    }
    Ok(())
}

/// A text whose middle is at the height of `at`.
pub(super) fn label(
    text: &str,
    at: (i32, i32),
    pixels: f64,
    colour: RGBColor,
    side: HPos,
) -> Text<'static, (i32, i32), String> {
    let style = (FONT, pixels).into_font().color(&colour).pos(Pos::new(side, VPos::Center));
    Text::new(text.to_owned(), at, style)
}

/// Turns an error of the drawing library into ours.
pub(super) fn failed<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("drawing a plot: {error}")
}

/// Smallest and largest; 0 and 1 if there are none.
pub(super) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low > high { (0.0, 1.0) } else { (low, high) }
}

/// A linear scale with ticks where we say, not where the library would put them.
struct Scale {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

fn stroke(index: usize) -> ShapeStyle {
    colour(index).stroke_width(2)
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

fn dashed(index: usize) -> bool {
    index / COLOURS.len() % 2 == 1
}

pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const PALE: RGBColor = RGBColor(110, 110, 110);
pub(super) const GRID: RGBColor = RGBColor(226, 226, 226);
pub(super) const MARGIN: i32 = 20;
pub(super) const HEAD: i32 = 60;
const FONT: &str = "sans-serif";

/// Told apart with every kind of colour vision (Okabe and Ito, without the yellow, which fades on white).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(80, 80, 80),
];
