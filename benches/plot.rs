//! Plots, as SVG.

use std::error::Error;
use std::path::Path;

use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (760, 400);
const FONT: &str = "sans-serif";
/// Berth first, then what it is compared with.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// Lines over a logarithmic x axis; the y axis is logarithmic too.
pub struct Lines<'a> {
    /// The file's name, without its extension.
    pub name: &'a str,
    pub title: &'a str,
    /// What the x axis counts, for example `mounts`.
    pub x: &'a str,
    /// What the y axis measures, with its unit, for example `ms`.
    pub y: &'a str,
    /// Each with its name; none of the numbers is zero.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// Groups of horizontal bars over a logarithmic axis.
pub struct Bars<'a> {
    /// The file's name, without its extension.
    pub name: &'a str,
    pub title: &'a str,
    /// What is measured, with its unit, for example `s`.
    pub unit: &'a str,
    /// The names of the bars of a group.
    pub series: &'a [&'a str],
    /// Each with its name and a value for each of `series`; one that was not measured is absent.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
}

impl Lines<'_> {
    pub fn draw(&self, path: &Path) -> Drawn {
        let all = || self.series.iter().flat_map(|(_, points)| points.iter().copied());
        let (left, right) = range(all().map(|point| point.0), 1.1);
        // With room for the names of the lines.
        let right = right * (right / left).powf(0.3);
        let (bottom, top) = range(all().map(|point| point.1), 2.0);
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, (FONT, 17))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .light_line_style(WHITE)
            .draw()?;
        for ((name, points), colour) in self.series.iter().zip(COLOURS.into_iter().cycle()) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 3), (x + 14, y + 3)], colour.filled())
                });
            let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots)?;
        }
        name_series(&mut chart)?;
        area.present()?;
        Ok(())
    }
}

impl Bars<'_> {
    pub fn draw(&self, path: &Path) -> Drawn {
        let values = || self.groups.iter().flat_map(|(_, values)| values.iter().flatten().copied());
        let (least, most) = range(values(), 3.0);
        // With room for the names of the bars.
        let most = most * (most / least).powf(0.3);
        let rows = self.groups.len() * (self.series.len() + 1);
        let height = 100 + 16 * u32::try_from(rows)?;
        let area = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, (FONT, 17))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(190)
            .build_cartesian_2d((least..most).log_scale(), 0..i32::try_from(rows)?)?;
        chart
            .configure_mesh()
            .x_desc(self.unit)
            .x_label_formatter(&|value| number(*value))
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(WHITE)
            .draw()?;
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let bars = self.groups.iter().enumerate().filter_map(|(group, (_, values))| {
                let value = (*values.get(index)?)?;
                Some((self.row(rows, group, index), value))
            });
            let bars: Vec<_> = bars.collect();
            let drawn = bars.iter().map(|(row, value)| {
                Rectangle::new([(least, *row), (*value, row + 1)], colour.filled())
            });
            chart.draw_series(drawn)?.label(*series).legend(move |(x, y)| {
                Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled())
            });
            let told = bars.iter().map(|(row, value)| {
                let place = EmptyElement::at((*value, row + 1));
                place + Text::new(number(*value), (4, 2), (FONT, 12))
            });
            chart.draw_series(told)?;
        }
        for (group, (name, _)) in self.groups.iter().enumerate() {
            let at = chart.backend_coord(&(least, self.row(rows, group, 0) + 1));
            area.draw(&Text::new(name.clone(), (12, at.1 + 2), (FONT, 13)))?;
        }
        name_series(&mut chart)?;
        area.present()?;
        Ok(())
    }

    /// The groups from the top, and in each the series from its top.
    fn row(&self, rows: usize, group: usize, series: usize) -> i32 {
        let before = group * (self.series.len() + 1) + series;
        i32::try_from(rows - 1 - before).unwrap()
    }
}

/// Shows which colour is what.
fn name_series<'a, X: Ranged, Y: Ranged>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
) -> Drawn {
    let mut names = chart.configure_series_labels();
    names.position(SeriesLabelPosition::MiddleRight).label_font((FONT, 13));
    Ok(names.background_style(WHITE.mix(0.8)).draw()?)
}

/// The least and the most of some positive numbers, with a margin around.
fn range(values: impl Iterator<Item = f64> + Clone, margin: f64) -> (f64, f64) {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let most = values.fold(f64::MIN_POSITIVE, f64::max);
    (least / margin, most * margin)
}

/// A number with two digits that count.
fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", short(value / 1e6))
    } else if value >= 1e4 {
        format!("{}k", short(value / 1e3))
    } else {
        short(value)
    }
}

fn short(value: f64) -> String {
    let digits = if value >= 10.0 {
        0
    } else if value >= 1.0 {
        1
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
