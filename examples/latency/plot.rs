//! The percentile curve as a picture: how long the fastest so many per cent took at most.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 540);
const COLORS: [RGBColor; 2] = [RGBColor(31, 119, 180), RGBColor(214, 39, 40)];
/// Points of a curve between two nines of the percentile.
const STEPS: u32 = 50;

pub(crate) struct Plot {
    path: PathBuf,
}

impl Plot {
    /// Finds out whether the file can be written. What is in it stays until there is something to draw.
    pub(crate) fn open(path: &Path) -> Result<Plot, String> {
        match OpenOptions::new().write(true).create(true).truncate(false).open(path) {
            Ok(_) => Ok(Plot { path: path.to_owned() }),
            Err(error) => Err(format!("cannot write {}: {error}", path.display())),
        }
    }

    pub(crate) fn draw(&self, caption: &str, curves: &[(&str, &Histogram<u64>)]) -> Result<(), String> {
        let mut svg = String::new();
        draw(&mut svg, caption, curves).map_err(|error| format!("cannot draw the curve: {error}"))?;
        fs::write(&self.path, svg).map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

/// To the right are the percentiles, by their nines: 90, 99, 99.9 per cent are as far from each other, because what is
/// wanted is the end of the curve.
fn draw(
    svg: &mut String,
    caption: &str,
    curves: &[(&str, &Histogram<u64>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let nines = curves.iter().map(|(_, latencies)| nines_of(latencies)).fold(1.0, f64::max);
    let max = curves.iter().map(|(_, latencies)| latencies.max()).max().unwrap_or(0).max(1);
    let (unit, scale) = match max {
        0..10_000_000 => ("us", 1e3),
        10_000_000..10_000_000_000 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(Nines { end: nines }, 0.0..max as f64 / scale * 1.05)?;
    chart
        .configure_mesh()
        .x_desc("per cent of the messages")
        .y_desc(format!("{unit} at most"))
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 14))
        .draw()?;
    for (&(label, latencies), color) in curves.iter().zip(COLORS) {
        let curve = LineSeries::new(points(latencies, scale), color.stroke_width(2));
        chart
            .draw_series(curve)?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()?;
    Ok(())
}

/// So many nines have the percentiles that the messages can tell: a thousand tell 99.9 per cent.
fn nines_of(latencies: &Histogram<u64>) -> f64 {
    (latencies.len().max(10) as f64).log10().min(7.0)
}

fn points(latencies: &Histogram<u64>, scale: f64) -> impl Iterator<Item = (f64, f64)> {
    let last = nines_of(latencies);
    let steps = (last * f64::from(STEPS)).ceil() as u32;
    (0..=steps).map(move |step| {
        let nines = last * f64::from(step) / f64::from(steps);
        let nanos = latencies.value_at_quantile(1.0 - 10_f64.powf(-nines));
        (nines, nanos as f64 / scale)
    })
}

/// The axis of the percentiles, by their nines: 0, 50, 90, 99, 99.9 per cent.
struct Nines {
    end: f64,
}

impl Ranged for Nines {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, nines: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * nines / self.end) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        let whole = (1..=self.end as u32).map(f64::from);
        [0.0, 2_f64.log10()].into_iter().chain(whole).collect()
    }

    fn range(&self) -> Range<f64> {
        0.0..self.end
    }
}

impl ValueFormatter<f64> for Nines {
    fn format(nines: &f64) -> String {
        let digits = (nines.round() as usize).saturating_sub(2);
        format!("{:.digits$} %", (1.0 - 10_f64.powf(-nines)) * 100.0)
    }
}
