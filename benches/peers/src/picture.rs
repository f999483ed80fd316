//! The picture: for each metric and scenario, how far each peer is from mainspring.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::{Metric, Outcome, ratios};

const WIDTH: u32 = 1100;
const PANEL: u32 = 250;
const LEGEND: u32 = 40;
/// The part of a scenario's width that its bars take.
const FILLED: f64 = 0.8;
const COLOURS: [RGBColor; 3] =
    [RGBColor(0x4c, 0x78, 0xa8), RGBColor(0xf5, 0x85, 0x18), RGBColor(0x72, 0xb7, 0xb2)];
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
/// Ratios that get a line, if they are in the picture.
const TICKS: [f64; 13] = [0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0, 10.0, 30.0];
/// What every panel shows at least, and at most: bars beyond it end at the edge, with their number.
const LEAST: (f64, f64) = (0.7, 1.5);
const MOST: (f64, f64) = (0.02, 50.0);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(crate) fn draw(outcomes: &[Outcome]) -> Result<String, String> {
    let mut svg = String::new();
    let height = LEGEND + PANEL * Metric::ALL.len() as u32;
    draw_into(&mut svg, height, outcomes).map_err(|error| format!("the picture: {error}"))?;
    if !svg.ends_with('\n') {
        svg.push('\n');
    }
    Ok(svg)
}

fn draw_into(svg: &mut String, height: u32, outcomes: &[Outcome]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (top, panels) = root.split_vertically(LEGEND);
    legend(&top, outcomes)?;
    for (area, metric) in panels.split_evenly((Metric::ALL.len(), 1)).iter().zip(Metric::ALL) {
        panel(area, metric, outcomes)?;
    }
    root.present()?;
    Ok(())
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn legend(area: &Area<'_>, outcomes: &[Outcome]) -> Result<(), Box<dyn std::error::Error>> {
    let Some(outcome) = outcomes.first() else { return Ok(()) };
    area.draw(&Text::new(
        "Ratio to mainspring (the line at 1); thin lines: lowest and highest round",
        (20, 14),
        font(15),
    ))?;
    let left = WIDTH as i32 - 130 * outcome.peers().len() as i32;
    for (index, row) in outcome.peers().iter().enumerate() {
        let x = left + 130 * index as i32;
        area.draw(&Rectangle::new([(x, 15), (x + 12, 27)], colour(index).filled()))?;
        area.draw(&Text::new(row.server.clone(), (x + 18, 14), font(15)))?;
    }
    Ok(())
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// Ratios are drawn by their logarithm, so that half and double are equally far from the line.
fn panel(area: &Area<'_>, metric: Metric, outcomes: &[Outcome]) -> Result<(), Box<dyn std::error::Error>> {
    let mut bars = Vec::new();
    for (group, outcome) in outcomes.iter().enumerate() {
        let width = FILLED / outcome.peers().len() as f64;
        for (index, row) in outcome.peers().iter().enumerate() {
            if let Some(ratio) = ratios(row, outcome.mainspring(), metric) {
                bars.push((group as f64 + (1.0 - FILLED) / 2.0 + width * index as f64, width, index, ratio));
            }
        }
    }
    let low = bars.iter().map(|bar| bar.3.min).fold(LEAST.0, f64::min).max(MOST.0);
    let high = bars.iter().map(|bar| bar.3.max).fold(LEAST.1, f64::max).min(MOST.1);
    // Room for the numbers.
    let (bottom, top) = (low.log2() - 0.15 * (high / low).log2(), high.log2() + 0.15 * (high / low).log2());
    let height = |ratio: f64| ratio.clamp(low, high).log2();
    let groups = outcomes.len().max(1) as f64;

    let direction =
        if metric.more_is_better() { "below 1: mainspring is ahead" } else { "above 1: mainspring is ahead" };
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{} ({direction})", metric.text()), font(15))
        .margin(10)
        .x_label_area_size(22)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..groups, bottom..top)?;
    for tick in TICKS.into_iter().filter(|tick| (low..=high).contains(tick)) {
        let colour = if tick == 1.0 { INK } else { GRID };
        chart.draw_series([PathElement::new(vec![(0.0, tick.log2()), (groups, tick.log2())], colour)])?;
        let label = font(12).pos(Pos::new(HPos::Right, VPos::Center));
        chart.draw_series([
            EmptyElement::at((0.0, tick.log2())) + Text::new(format!("{tick}"), (-6, 0), label)
        ])?;
    }
    for (left, width, index, ratio) in bars {
        let corners = [(left, 0.0), (left + width * 0.9, height(ratio.median))];
        chart.draw_series([Rectangle::new(corners, colour(index).filled())])?;
        let middle = left + width * 0.45;
        let whisker = vec![(middle, height(ratio.min)), (middle, height(ratio.max))];
        chart.draw_series([PathElement::new(whisker, INK)])?;
        // Beyond the bar's end, and the whisker's.
        let (at, side, by) =
            if ratio.median >= 1.0 { (ratio.max, VPos::Bottom, -3) } else { (ratio.min, VPos::Top, 3) };
        let label = font(12).pos(Pos::new(HPos::Center, side));
        let text = Text::new(format!("{:.2}", ratio.median), (0, by), label);
        chart.draw_series([EmptyElement::at((middle, height(at))) + text])?;
    }
    for (group, outcome) in outcomes.iter().enumerate() {
        let label = font(14).pos(Pos::new(HPos::Center, VPos::Top));
        let text = Text::new(outcome.scenario.name.clone(), (0, 6), label);
        chart.draw_series([EmptyElement::at((group as f64 + 0.5, bottom)) + text])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::{measured, outcome, row};

    #[test]
    fn the_picture_has_a_bar_with_its_number_for_each_ratio() {
        let svg = draw(&[outcome()]).unwrap();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{svg}");
        for expected in ["0.50", "0.65", "tokio", "mio", "p2", "server CPU a message"] {
            assert!(svg.contains(expected), "{expected} in {svg}");
        }
    }

    #[test]
    fn ratios_off_the_scale_are_drawn_to_its_edge() {
        let (ours, theirs) = ([measured(1.0, 1.0, 1.0)], [measured(1e-6, 1e6, 1e6)]);
        let far = Outcome { rows: vec![row("mainspring", &ours), row("x", &theirs)], ..outcome() };
        let svg = draw(&[far]).unwrap();
        assert!(svg.contains("1000000.00") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        assert!(draw(&[]).unwrap().starts_with("<svg"));
    }
}
