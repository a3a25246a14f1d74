//! The plots: how latencies are distributed, throughput by size, and ringway beside what users pick today.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{self, Area, Axis, GRID, HEAD, INK, Line, MARGIN, PALE, failed, label, legend, lines};
use super::group::{Group, Identity, RINGWAY, Results, size};
use super::number::{Figure, significant, time};
use super::page::{PEERS, WORKS};

/// Writes the plots into `folder`, which is made if it does not exist. A plot without data is left out, with a note.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn write(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let left_out =
        |group: &&Group| group.identity.work() == "stream" && !(group.is_calm() && group.is_sound());
    for group in results.groups.iter().filter(left_out) {
        eprintln!("throughput.svg has no point for {}: it does not count", group.identity);
    }
    let plots = [
        ("latency.svg", latency(results)?, "no round trips with a histogram"),
        ("throughput.svg", throughput(results)?, "no streams"),
        ("peers.svg", peers(results)?, "no work that both ringway and another system did"),
    ];
    for (name, svg, missing) in plots {
        let path = folder.join(name);
        match svg {
            Some(svg) => fs::write(&path, svg).with_context(|| format!("writing {}", path.display()))?,
            None => eprintln!("{name} is left out: there are {missing}"),
        }
    }
    Ok(())
}

/// Which share of the round trips took at most how long; the tail has as much room as the rest.
fn latency(results: &Results) -> Result<Option<String>> {
    let mut all = Vec::new();
    for group in results.groups.iter().filter(|group| group.identity.work() == "rtt") {
        let points = cumulative(&group.histogram());
        if points.len() > 1 {
            all.push(Line { name: named(group, group.identity.to_string()), points });
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    let times = all.iter().flat_map(|line| &line.points).map(|(x, _)| 10f64.powf(*x));
    let x = Axis::decades("round trip, logarithmic", times, |x| {
        let ns = 10f64.powf(x);
        time(ns, 1)
    });
    let y = Axis {
        name: "share of the round trips that took at most this".to_owned(),
        ticks: vec![0.0, nines(0.5), 1.0, 2.0, 3.0, 4.0, 5.0],
        low: 0.0,
        high: NINES_MAX,
        write: share,
    };
    let size = (1080, 600.max(HEAD as u32 + 40 + 21 * all.len() as u32));
    let svg = canvas::svg(size, "Round trips", &subtitle(results), |area| {
        let (left, right) = area.split_horizontally(780);
        lines(&left, &x, &y, &all, false)?;
        legend(&right, &all)
    })?;
    Ok(Some(svg))
}

/// Points of (decimal logarithm of nanoseconds, [`nines`] of the share at or below), up to [`NINES_MAX`].
fn cumulative(histogram: &[(u64, u64)]) -> Vec<(f64, f64)> {
    let total: u64 = histogram.iter().map(|(_, count)| count).sum();
    let mut points = Vec::new();
    let mut below = 0;
    for (bound, count) in histogram.iter().filter(|(bound, count)| *bound > 0 && *count > 0) {
        let x = (*bound as f64).log10();
        if points.is_empty() {
            points.push((x, 0.0));
        }
        below += count;
        // The slowest one stands for its share: of a thousand, 99.9 %.
        let reached = if below < total { below as f64 / total as f64 } else { 1.0 - 1.0 / total as f64 };
        let last = points.last().map_or(0.0, |(_, y): &(f64, f64)| *y);
        points.push((x, nines(reached).clamp(last, NINES_MAX)));
        if nines(reached) >= NINES_MAX {
            break;
        }
    }
    points
}

/// How many nines a share has: 1 for 90 %, 2 for 99 %.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn share(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10f64.powf(-nines));
    let decimals = (nines - 2.0).round().max(0.0) as usize;
    format!("{percent:.decimals$} %")
}

/// Messages and bytes per second of one sender by the size of a message.
fn throughput(results: &Results) -> Result<Option<String>> {
    let (rates, byte_rates) = stream_lines(results);
    if rates.is_empty() {
        return Ok(None);
    }
    let mut sizes: Vec<f64> = rates.iter().flat_map(|line| &line.points).map(|(x, _)| *x).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let (low, high) = canvas::range(sizes.iter().copied());
    let x = Axis {
        name: "payload of a message, logarithmic".to_owned(),
        ticks: sizes,
        low: low - 0.5,
        high: high + 0.5,
        write: |x| size(x.exp2().round() as u64),
    };
    let values = |lines: &[Line]| -> Vec<f64> {
        lines.iter().flat_map(|line| &line.points).map(|(_, y)| 10f64.powf(*y)).collect()
    };
    let write = |y: f64| significant(10f64.powf(y), 1);
    let rate = Axis::decades("million messages per second, logarithmic", values(&rates).into_iter(), write);
    let bytes = Axis::decades("GB per second, logarithmic", values(&byte_rates).into_iter(), write);
    let size = (1280, 560.max(HEAD as u32 + 40 + 21 * rates.len() as u32));
    let svg = canvas::svg(size, "Streams from one process to another", &subtitle(results), |area| {
        let (left, right) = area.split_horizontally(500);
        let (middle, right) = right.split_horizontally(500);
        lines(&left, &x, &rate, &rates, true)?;
        lines(&middle, &x, &bytes, &byte_rates, true)?;
        legend(&right, &rates)
    })?;
    Ok(Some(svg))
}

/// For each way to stream, points of (binary logarithm of bytes, decimal logarithm of the rate), sorted by size.
fn stream_lines(results: &Results) -> (Vec<Line>, Vec<Line>) {
    let (mut rates, mut byte_rates): (Vec<Line>, Vec<Line>) = (Vec::new(), Vec::new());
    let counts = |group: &&Group| group.is_calm() && group.is_sound();
    for group in results.groups.iter().filter(counts).filter(|group| group.identity.clients() == 1) {
        let id = &group.identity;
        let rate = group.figure(|row| row.msgs_per_s).filter(|rate| rate.median > 0.0);
        let (Some(bytes), Some(rate), "stream") = (id.bytes.filter(|bytes| *bytes > 0), rate, id.work())
        else {
            continue;
        };
        let name = way(results, id);
        let index = rates.iter().position(|line| line.name == name).unwrap_or_else(|| {
            rates.push(Line { name: name.clone(), points: Vec::new() });
            byte_rates.push(Line { name, points: Vec::new() });
            rates.len() - 1
        });
        let x = (bytes as f64).log2();
        rates[index].points.push((x, (rate.median / 1e6).log10()));
        byte_rates[index].points.push((x, (rate.median * bytes as f64 / 1e9).log10()));
    }
    for line in rates.iter_mut().chain(&mut byte_rates) {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    (rates, byte_rates)
}

/// Who carried it and how, without what it was: `ringway bulk batch 16`.
fn way(results: &Results, id: &Identity) -> String {
    let mut words = vec![id.transport.clone()];
    words.extend([&id.profile, &id.wait].into_iter().flatten().cloned());
    words.extend((id.batch() > 1).then(|| format!("batch {}", id.batch())));
    words.extend((id.trust == Some(true)).then(|| "trusted".to_owned()));
    words.extend(id.ring_bytes.map(|bytes| format!("ring {}", size(bytes))));
    let pin = id.pin.as_deref().filter(|pin| Some(*pin) != results.usual_pin());
    words.extend(pin.map(|pin| format!("on {pin}")));
    words.join(" ")
}

/// One bar: whose it is, how long, and whether it is one of ours.
struct Bar {
    name: String,
    figure: Figure,
    ours: bool,
}

/// Bars for one work.
struct Panel {
    title: String,
    axis: &'static str,
    write: fn(f64) -> String,
    bars: Vec<Bar>,
}

impl Panel {
    fn height(&self) -> i32 {
        PANEL_HEAD + BAR_STEP * self.bars.len() as i32 + PANEL_FOOT
    }
}

/// A panel of bars for each work that ringway and another system did with as many bytes and clients.
fn peers(results: &Results) -> Result<Option<String>> {
    let panels = panels(results);
    if panels.is_empty() {
        return Ok(None);
    }
    let height = HEAD + KEY_HEIGHT + panels.iter().map(Panel::height).sum::<i32>() + 8;
    let svg = canvas::svg((960, height as u32), "Beside sockets and pipes", &subtitle(results), |area| {
        draw_key(area, results.lists > 1)?;
        let mut top = KEY_HEIGHT;
        for panel in &panels {
            draw_panel(area, top, panel)?;
            top += panel.height();
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

fn panels(results: &Results) -> Vec<Panel> {
    let mut panels = Vec::new();
    for work in WORKS {
        let groups: Vec<&Group> = results.groups.iter().filter(|group| does(group, work)).collect();
        let mut kinds: Vec<&Identity> = Vec::new();
        for id in groups.iter().map(|group| &group.identity) {
            if !kinds.iter().any(|kind| is_like(kind, id)) {
                kinds.push(id);
            }
        }
        for kind in kinds {
            let same = groups.iter().filter(|group| is_like(kind, &group.identity));
            let mut bars: Vec<Bar> = same.filter_map(|group| bar(results, group)).collect();
            bars.sort_by_key(|bar| !bar.ours);
            if bars.first().is_some_and(|bar| bar.ours) && bars.last().is_some_and(|bar| !bar.ours) {
                panels.push(panel(work, kind, bars));
            }
        }
    }
    panels
}

/// Says whether both are about messages of the same length and as many processes.
fn is_like(one: &Identity, other: &Identity) -> bool {
    let shape = |id: &Identity| (id.bytes, id.bytes_min, id.clients(), id.receivers);
    shape(one) == shape(other)
}

fn does(group: &Group, work: &str) -> bool {
    let id = &group.identity;
    let known = id.transport == RINGWAY || PEERS.contains(&id.transport.as_str());
    known && id.work() == work && id.rate.is_none()
}

fn bar(results: &Results, group: &Group) -> Option<Bar> {
    let id = &group.identity;
    let figure = match id.work() {
        "rtt" => group.figure(|row| row.ns.map(|ns| ns.p50 as f64 / 1e3)),
        _ => group.figure(|row| row.msgs_per_s.map(|rate| rate / 1e6)),
    };
    let name = named(group, way(results, id));
    Some(Bar { name, figure: figure.filter(|figure| figure.median > 0.0)?, ours: id.transport == RINGWAY })
}

fn panel(work: &str, kind: &Identity, bars: Vec<Bar>) -> Panel {
    let clients = kind.clients();
    let bytes = kind.size().map_or_else(String::new, |size| format!(" of {size}"));
    let many = |one: &str| if clients > 1 { format!(", {clients} {one}") } else { String::new() };
    let (title, axis, write): (_, _, fn(f64) -> String) = match work {
        "rtt" => (format!("Round trips{bytes}{}", many("pairs")), "median in us, shorter is better", |us| {
            time(us * 1e3, 2)
        }),
        "fanin" => (format!("Messages{bytes}{} to one server", many("clients")), MESSAGES_AXIS, millions),
        "route" => {
            let receivers = kind.receivers.unwrap_or(1);
            (format!("Messages{bytes}, each to {receivers} receivers"), MESSAGES_AXIS, millions)
        }
        "echo" => (format!("Requests answered{bytes}{}", many("clients")), MESSAGES_AXIS, millions),
        _ => (format!("Messages{bytes} in a stream{}", many("pairs")), MESSAGES_AXIS, millions),
    };
    Panel { title, axis, write, bars }
}

fn millions(rate: f64) -> String {
    format!("{} M/s", significant(rate, 2))
}

/// What the colours mean, and the thin lines if there are any.
fn draw_key(area: &Area, ranges: bool) -> Result<()> {
    for (left, colour, name) in [(MARGIN, OURS, "ringway"), (MARGIN + 90, THEIRS, "other systems")] {
        area.draw(&Rectangle::new([(left, 4), (left + 12, 16)], colour.filled())).map_err(failed)?;
        area.draw(&label(name, (left + 18, 10), 12.0, INK, HPos::Left)).map_err(failed)?;
    }
    if ranges {
        let left = MARGIN + 220;
        area.draw(&PathElement::new(vec![(left, 10), (left + 18, 10)], INK.stroke_width(1)))
            .map_err(failed)?;
        area.draw(&label("smallest to largest", (left + 24, 10), 12.0, INK, HPos::Left)).map_err(failed)?;
    }
    Ok(())
}

fn draw_panel(area: &Area, top: i32, panel: &Panel) -> Result<()> {
    let longest = canvas::range(panel.bars.iter().map(|bar| bar.figure.max)).1;
    let step = round_step(longest / 5.0);
    let x = |value: f64| BARS_LEFT + (value / longest * f64::from(BARS_WIDTH)) as i32;
    let bottom = top + PANEL_HEAD + BAR_STEP * panel.bars.len() as i32;
    area.draw(&label(&panel.title, (MARGIN, top + 14), 14.0, INK, HPos::Left)).map_err(failed)?;
    for tick in (0..=5).map(|tick| step * f64::from(tick)).filter(|tick| *tick <= longest) {
        let grid =
            PathElement::new(vec![(x(tick), top + PANEL_HEAD - 2), (x(tick), bottom)], GRID.stroke_width(1));
        area.draw(&grid).map_err(failed)?;
        area.draw(&label(&tick_text(tick), (x(tick), bottom + 10), 11.0, PALE, HPos::Center))
            .map_err(failed)?;
    }
    let middle = BARS_LEFT + BARS_WIDTH / 2;
    area.draw(&label(panel.axis, (middle, bottom + 26), 11.0, PALE, HPos::Center)).map_err(failed)?;
    for (index, bar) in panel.bars.iter().enumerate() {
        let y = top + PANEL_HEAD + BAR_STEP * index as i32;
        let colour = if bar.ours { OURS } else { THEIRS };
        let end = x(bar.figure.median).max(BARS_LEFT + 1);
        area.draw(&label(&bar.name, (BARS_LEFT - 8, y + 9), 12.0, INK, HPos::Right)).map_err(failed)?;
        area.draw(&Rectangle::new([(BARS_LEFT, y), (end, y + 18)], colour.filled())).map_err(failed)?;
        let (low, high) = (x(bar.figure.min), x(bar.figure.max));
        if high > low {
            let range = PathElement::new(vec![(low, y + 9), (high, y + 9)], INK.stroke_width(1));
            area.draw(&range).map_err(failed)?;
        }
        let text = (panel.write)(bar.figure.median);
        area.draw(&label(&text, (end.max(high) + 6, y + 9), 12.0, INK, HPos::Left)).map_err(failed)?;
    }
    Ok(())
}

/// The smallest of 1, 2, 5, 10 and so on that is at least `value`.
fn round_step(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= value * 0.999);
    step.unwrap_or(10.0) * power
}

/// A multiple of a round step, which has two digits at most.
fn tick_text(value: f64) -> String {
    let text = significant(value, 2);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The name of a line or bar, with a word if its figure does not count.
fn named(group: &Group, name: String) -> String {
    match (group.is_calm(), group.is_sound()) {
        (true, true) => name,
        (_, false) => format!("{name} (lost messages)"),
        (false, _) => format!("{name} (not calm)"),
    }
}

/// On what it was measured.
fn subtitle(results: &Results) -> String {
    let Some(row) = results.rows().next() else { return String::new() };
    let lists = if results.lists > 1 { format!(", {} lists", results.lists) } else { String::new() };
    format!("{}, {} cores, Linux {}, commit {}{lists}", row.cpu, row.cores, row.kernel, row.commit)
}

/// Where the axis of shares ends: 99.999 %.
const NINES_MAX: f64 = 5.0;
const MESSAGES_AXIS: &str = "million messages per second, longer is better";
const KEY_HEIGHT: i32 = 30;
const PANEL_HEAD: i32 = 32;
const PANEL_FOOT: i32 = 48;
const BAR_STEP: i32 = 24;
const BARS_LEFT: i32 = 250;
const BARS_WIDTH: i32 = 600;
const OURS: RGBColor = RGBColor(0, 114, 178);
const THEIRS: RGBColor = RGBColor(150, 150, 150);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{at, list, results, row, taking};

    fn svg(plot: fn(&Results) -> Result<Option<String>>) -> String {
        let svg = plot(&results()).unwrap().expect("there is data");
        assert_eq!(svg, plot(&results()).unwrap().unwrap(), "the same data, the same plot");
        assert!(svg.starts_with("<svg "), "{svg:.100}");
        assert!(svg.contains("fill=\"#FFFFFF\""), "a white background");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.contains("AMD EPYC, 2 cores, Linux 6.18, commit 0123abc, 3 lists"));
        svg
    }

    fn has(svg: &str, texts: &[&str]) {
        for text in texts {
            assert!(svg.lines().any(|line| line.trim() == *text), "no {text} in\n{svg}");
        }
    }

    #[test]
    fn the_plot_of_latencies_names_axes_and_lines() {
        let names =
            ["rtt 16 B spin", "rtt 64 B sleep", "uds rtt 64 B", "pipe rtt 64 B", "rtt 64 B auto 100000/s"];
        let svg = svg(latency);
        has(&svg, &names);
        has(
            &svg,
            &["Round trips", "round trip, logarithmic", "share of the round trips that took at most this"],
        );
        has(&svg, &["100 ns", "10 us", "50 %", "99.9 %"]);
    }

    #[test]
    fn the_plot_of_streams_has_a_line_for_each_way() {
        let svg = svg(throughput);
        has(
            &svg,
            &[
                "ringway latency auto",
                "ringway bulk auto",
                "ringway bulk auto batch 16",
                "uds-buffered",
                "pipe",
            ],
        );
        has(
            &svg,
            &["million messages per second, logarithmic", "GB per second, logarithmic", "1 KiB", "64 KiB"],
        );
    }

    #[test]
    fn the_plot_of_peers_has_a_panel_for_each_common_work() {
        let svg = svg(peers);
        has(
            &svg,
            &[
                "Round trips of 64 B",
                "Messages of 64 B in a stream",
                "Messages of 1 KiB, 8 clients to one server",
            ],
        );
        has(
            &svg,
            &["ringway sleep", "uds", "uds-buffered", "pipe", "46 us", "200 ns", "82 M/s", "other systems"],
        );
        assert!(!svg.contains("64 KiB"), "nobody else did that");
    }

    #[test]
    fn a_plot_without_data_is_left_out() {
        let alone = Results::of(vec![vec![row("idle", 0), at(row("fanin", 64), 1.0)]]);
        for plot in [latency, throughput, peers] {
            assert_eq!(plot(&alone).unwrap(), None);
        }
    }

    #[test]
    fn the_plots_are_written_into_a_folder_that_is_made() {
        let folder = std::env::temp_dir().join(format!("ringway-plots-{}", std::process::id()));
        let inner = folder.join("inner");
        write(&Results::of(vec![vec![taking(row("rtt", 64), 200)]]), &inner).unwrap();
        let written: Vec<_> = fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(written, ["latency.svg"]);
        write(&Results::of(vec![list()]), &inner).unwrap();
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 3);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn shares_stand_at_their_number_of_nines() {
        let points = cumulative(&[(100, 900), (200, 90), (1000, 10)]);
        let rounded: Vec<(i32, i32)> =
            points.iter().map(|(x, y)| ((x * 100.0).round() as i32, (y * 100.0).round() as i32)).collect();
        assert_eq!(rounded, [(200, 0), (200, 100), (230, 200), (300, 300)]);
        assert_eq!([0.0, nines(0.5), 1.0, 2.0, 4.0].map(share), ["0 %", "50 %", "90 %", "99 %", "99.99 %"]);
    }

    #[test]
    fn steps_of_an_axis_are_round() {
        assert_eq!([0.3, 1.0, 2.1, 11.0].map(round_step), [0.5, 1.0, 5.0, 20.0]);
        assert_eq!(
            [0.0, 15.0, 5.0, 0.30000000000000004, 0.25].map(tick_text),
            ["0", "15", "5", "0.3", "0.25"]
        );
    }
}
