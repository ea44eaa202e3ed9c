//! One page about a run, or about several side by side.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::style::RGBColor;

use super::ReportError;
use super::canvas::{BLUE, VERMILION};
use super::compare::{differences, results};
use super::curves::{Curve, draw, smoothed};
use super::record::Record;
use super::samples::Samples;
use super::table::Numbers;
use crate::run::RunFolder;

/// A page about runs that needs nothing beside itself: curves, results, settings, machine,
/// samples. Several runs share their curves, and it is said in what they differ.
///
/// The files of a run may be missing, cut off or damaged: the page says so.
///
/// # Errors
///
/// If there is no run or more than [`MOST_RUNS`], or a drawing fails.
pub fn page(runs: &[RunFolder]) -> Result<String, ReportError> {
    if runs.is_empty() || runs.len() > MOST_RUNS {
        return Err(ReportError::Runs {
            most: MOST_RUNS,
            found: runs.len(),
        });
    }
    let mut records: Vec<Record> = runs.iter().map(Record::read).collect();
    tell_apart(&mut records);
    let page = match &records[..] {
        [record] => single(record)?,
        records => several(records)?,
    };
    Ok(page.into_string())
}

/// How many runs can be told apart in one page.
pub const MOST_RUNS: usize = 2 * COLORS.len();

/// Okabe & Ito's palette, without the yellow that paper swallows.
const COLORS: [RGBColor; 7] = [
    BLUE,
    VERMILION,
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x88, 0x88, 0x88),
];

fn single(record: &Record) -> Result<Markup, ReportError> {
    let charts = charts(std::slice::from_ref(record))?;
    let facts = results(std::slice::from_ref(record));
    let body = html! {
        header {
            h1 { (record.name) }
            (origin(record))
        }
        (warnings(std::slice::from_ref(record)))
        @if record.best().is_none() {
            p { "Not validated yet." }
        }
        dl.facts {
            @for column in &facts.columns {
                @if let Some(cell) = column.cells[0].as_ref() {
                    div { dt { (column.name) } dd { (cell) } }
                }
            }
        }
        (charts)
        @if record.samples.value.is_some() {
            h2 { "Samples" }
            (samples(record))
        }
        (plots(record))
        div.pair {
            section { h2 { "Settings" } (settings(record)) }
            section { h2 { "System" } (system(record)) }
        }
        (missing(record))
    };
    Ok(document(&record.name, &body))
}

fn several(records: &[Record]) -> Result<Markup, ReportError> {
    let charts = charts(records)?;
    let results = results(records);
    let differences = differences(records);
    let title = format!("{} runs", records.len());
    let body = html! {
        header { h1 { (title) } }
        (warnings(records))
        ul.legend {
            @for (position, record) in records.iter().enumerate() {
                li { (key(position)) (record.name) }
            }
        }
        h2 { "Results" }
        @if results.of_several_tasks {
            p.muted { "The runs are of different tasks: their losses do not compare." }
        }
        div.scroll { table {
            thead { tr {
                th { "run" }
                @for column in &results.columns { th.number { (column.name) } }
            } }
            tbody {
                @for (position, record) in records.iter().enumerate() {
                    tr {
                        td.run { (key(position)) (record.name) }
                        @for column in &results.columns {
                            @let best = column.best.contains(&position);
                            td.number.best[best] {
                                (column.cells[position].as_deref().unwrap_or("–"))
                                @if best { " ★" }
                            }
                        }
                    }
                }
            }
        } }
        @if results.columns.iter().any(|column| !column.best.is_empty()) {
            p.muted { "★ the best of the column" }
        }
        (charts)
        h2 { "Differences" }
        @if differences.is_empty() {
            p { "The settings of these runs, and what is known of their machines, are the same." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th { "setting" }
                    @for (position, record) in records.iter().enumerate() {
                        th.run { (key(position)) (record.name) }
                    }
                } }
                tbody {
                    @for row in &differences {
                        tr {
                            td { (row.name) }
                            @for value in &row.values {
                                td.value { (value.as_deref().unwrap_or("–")) }
                            }
                        }
                    }
                }
            } }
        }
        @for (position, record) in records.iter().enumerate() {
            h2 { (key(position)) (record.name) }
            (origin(record))
            @if record.samples.value.is_some() {
                details { summary { "Samples" } (samples(record)) }
            }
            @if !record.plots.is_empty() {
                details { summary { "Plots" } (plots(record)) }
            }
            details { summary { "Settings" } (settings(record)) }
            details { summary { "System" } (system(record)) }
            (missing(record))
        }
    };
    Ok(document(&title, &body))
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing is fetched and no script runs, whatever the files of a run hold.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body { (body) }
        }
    }
}

/// What is wrong with the files.
fn warnings(records: &[Record]) -> Markup {
    let all: Vec<_> = records
        .iter()
        .flat_map(|record| record.notes().into_iter().map(move |note| (record, note)))
        .collect();
    html! {
        @if !all.is_empty() {
            div.warn {
                "Not everything could be read:"
                ul {
                    @for (record, (file, note)) in &all {
                        li {
                            @if records.len() > 1 { (record.name) "/" }
                            (file) ": " (note)
                        }
                    }
                }
            }
        }
    }
}

/// What the run is of, and where.
fn origin(record: &Record) -> Markup {
    let path = record.root.display().to_string();
    let task = record.task().map(|task| format!("task: {task}"));
    let path = (path != record.name).then_some(path);
    let parts: Vec<String> = task.into_iter().chain(path).collect();
    html! { p.muted { (parts.join(" · ")) } }
}

fn missing(record: &Record) -> Markup {
    let missing = record.missing();
    html! {
        @if !missing.is_empty() {
            p.muted { "Not in the folder: " (missing.join(", ")) }
        }
    }
}

fn charts(records: &[Record]) -> Result<Markup, ReportError> {
    let mut charts = Vec::new();
    charts.extend(loss_chart(records)?);
    for name in metric_names(records) {
        let label = name.strip_prefix("valid_").unwrap_or(&name);
        let title = format!("Validation: {label}");
        charts.extend(chart(
            &title,
            records,
            |record| (curve_of(&record.metrics.value, &name), true),
            false,
        )?);
    }
    let of_steps = [
        ("Learning rate", "learning_rate", false),
        ("Gradient norm", "grad_norm", true),
    ];
    for (title, column, noisy) in of_steps {
        charts.extend(chart(
            title,
            records,
            |record| {
                let points = curve_of(&record.steps.value, column);
                // Older runs kept the learning rate with the time.
                let points = match points.is_empty() {
                    true => curve_of(&record.timing.value, column),
                    false => points,
                };
                (if noisy { smoothed(&points) } else { points }, false)
            },
            noisy,
        )?);
    }
    charts.extend(chart(
        "Skipped steps",
        records,
        |record| {
            let points = curve_of(&record.steps.value, "skipped");
            let any = points.iter().any(|point| point.1 > 0.0);
            (if any { points } else { Vec::new() }, false)
        },
        false,
    )?);
    charts.extend(chart(
        "Targets per second",
        records,
        |record| {
            (
                smoothed(&curve_of(&record.timing.value, "targets_per_second")),
                false,
            )
        },
        false,
    )?);
    charts.extend(chart(
        "Time in seconds",
        records,
        |record| (curve_of(&record.timing.value, "seconds"), false),
        false,
    )?);
    Ok(html! {
        @if !charts.is_empty() {
            h2 { "Curves" }
            div.curves.one[charts.len() == 1] {
                @for chart in &charts { (chart) }
            }
        }
    })
}

/// The loss in training, smoothed where there are many rows, and in validation.
fn loss_chart(records: &[Record]) -> Result<Option<Markup>, ReportError> {
    let alone = records.len() == 1;
    let mut curves = Vec::new();
    for (position, record) in records.iter().enumerate() {
        let by_step = curve_of(&record.steps.value, "loss");
        let train = match by_step.is_empty() {
            true => curve_of(&record.metrics.value, "train_loss"),
            false => by_step,
        };
        let smooth = smoothed(&train);
        if alone && smooth != train {
            let mut raw = curve(0, train, 8);
            raw.opacity = 0.3;
            curves.push(raw);
        }
        let mut train = curve(position, smooth, 12);
        train.opacity = if alone { 1.0 } else { 0.45 };
        curves.push(train);
        let valid = curve_of(&record.metrics.value, "valid_loss");
        let mut valid = curve(if alone { 1 } else { position }, valid, 20);
        valid.dots = true;
        curves.push(valid);
    }
    let Some(drawn) = draw(&curves, true)? else {
        return Ok(None);
    };
    let caption = html! {
        h3 { "Loss" }
        @if alone {
            span { (key(0)) "training" }
            span { (key(1)) "validation" }
        } @else {
            span { "thin: training, bold: validation" }
        }
        @if drawn.logarithmic { span { "log scale" } }
    };
    Ok(Some(figure("Loss by optimizer step", &caption, drawn.svg)))
}

/// A curve of each run; nothing if no run has one.
fn chart(
    title: &str,
    records: &[Record],
    points: impl Fn(&Record) -> (Vec<(f64, f64)>, bool),
    logarithmic: bool,
) -> Result<Option<Markup>, ReportError> {
    let curves: Vec<Curve> = records
        .iter()
        .enumerate()
        .map(|(position, record)| {
            let (points, dots) = points(record);
            Curve {
                dots,
                ..curve(position, points, 16)
            }
        })
        .collect();
    let Some(drawn) = draw(&curves, logarithmic)? else {
        return Ok(None);
    };
    let caption = html! {
        h3 { (title) }
        @if drawn.logarithmic { span { "log scale" } }
    };
    let label = format!("{title} by optimizer step");
    Ok(Some(figure(&label, &caption, drawn.svg)))
}

fn figure(label: &str, caption: &Markup, svg: String) -> Markup {
    html! {
        figure {
            figcaption { (caption) }
            // Drawn here, of numbers alone.
            div role="img" aria-label=(label) { (PreEscaped(svg)) }
        }
    }
}

fn curve(position: usize, points: Vec<(f64, f64)>, width: u32) -> Curve {
    Curve {
        points,
        color: COLORS[position % COLORS.len()],
        width,
        opacity: 1.0,
        dashed: position >= COLORS.len(),
        dots: false,
    }
}

/// The line of a run as it is in the curves.
fn key(position: usize) -> Markup {
    let RGBColor(red, green, blue) = COLORS[position % COLORS.len()];
    let color = format!("border-color:#{red:02x}{green:02x}{blue:02x}");
    html! { span.key.dashed[position >= COLORS.len()] style=(color) {} }
}

fn curve_of(numbers: &Option<Numbers>, column: &str) -> Vec<(f64, f64)> {
    let curve = numbers.as_ref().map(|numbers| numbers.curve(column));
    curve.unwrap_or_default()
}

/// The task's own metrics, of all runs.
fn metric_names(records: &[Record]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for record in records {
        for name in record.metrics.value.iter().flat_map(Numbers::columns) {
            let known = ["step", "epoch", "train_loss", "valid_loss"].contains(&name);
            if !known && !names.iter().any(|other| other == name) && names.len() < MOST_METRICS {
                names.push(name.into());
            }
        }
    }
    names
}

const MOST_METRICS: usize = 24;
const MOST_SAMPLES: usize = 200;

fn samples(record: &Record) -> Markup {
    let Some(samples) = &record.samples.value else {
        return html! {};
    };
    match samples {
        Samples::Text { title, items } => html! {
            p { (title) }
            @for item in items.iter().take(MOST_SAMPLES) {
                pre { b { (item.prompt) } (item.text) }
            }
        },
        Samples::Table {
            title,
            columns,
            rows,
        } => html! {
            p { (title) }
            div.scroll { table {
                thead { tr { @for column in columns { th { (column) } } } }
                tbody {
                    @for row in rows.iter().take(MOST_SAMPLES) {
                        tr {
                            @for cell in row {
                                @let number = cell.parse::<f64>().is_ok();
                                td.value.number[number] { (cell) }
                            }
                        }
                    }
                }
            } }
        },
    }
}

/// Plots the run has drawn. As images they run no script, whoever wrote them.
fn plots(record: &Record) -> Markup {
    let plots = record.plots.iter();
    let plots = plots.filter_map(|(name, part)| Some((name, part.value.as_ref()?)));
    html! {
        @for (name, svg) in plots {
            @let title = capitalized(name.trim_end_matches(".svg"));
            h2 { (title) }
            figure {
                div.scroll {
                    img alt=(title) src={ "data:image/svg+xml;base64," (STANDARD.encode(svg)) };
                }
            }
        }
    }
}

fn settings(record: &Record) -> Markup {
    match &record.config.value {
        Some(config) => html! { pre { (config.text.trim()) } },
        None => html! { p.muted { "config.toml could not be read." } },
    }
}

fn system(record: &Record) -> Markup {
    match &record.system.value {
        Some(pairs) => html! {
            table {
                @for (name, value) in pairs {
                    tr { td.muted { (name.replace('_', " ")) } td.value { (value) } }
                }
            }
        },
        None => html! { p.muted { "Not on record." } },
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// Runs of one name are called by their paths.
fn tell_apart(records: &mut [Record]) {
    let names: Vec<String> = records.iter().map(|record| record.name.clone()).collect();
    for record in records.iter_mut() {
        if names.iter().filter(|name| **name == record.name).count() > 1 {
            record.name = record.root.display().to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const EVIL: &str = "<script>alert(1)</script>";

    fn write(root: &Path, files: &[(&str, String)]) -> RunFolder {
        fs::create_dir_all(root.join("plots")).unwrap();
        for (name, content) in files {
            fs::write(root.join(name), content).unwrap();
        }
        RunFolder::open(root).unwrap()
    }

    fn whole(root: &Path, note: &str) -> RunFolder {
        let rows = |row: &dyn Fn(u64) -> String| (1..=200).map(row).collect::<String>();
        write(
            root,
            &[
                (
                    "config.toml",
                    format!("format = 1\ntask = \"classify\"\nnote = \"{note}\"\n"),
                ),
                (
                    "metrics.csv",
                    format!("step,epoch,train_loss,valid_loss,valid_accuracy,valid_{note}\n")
                        + "100,1,0.9,0.8,0.5,1\n200,2,0.7,0.6,0.75,2\n",
                ),
                (
                    "steps.csv",
                    "step,epoch,loss,learning_rate,grad_norm,skipped\n".to_string()
                        + &rows(&|k| format!("{k},0,{},0.002,{},0\n", 1.0 / k as f64, k % 7)),
                ),
                (
                    "timing.csv",
                    "step,seconds,targets_per_second\n".to_string()
                        + &rows(&|k| format!("{k},{},{}\n", k as f64 / 10.0, 9000 + k)),
                ),
                (
                    "system.json",
                    format!("{{\"cpu\":\"{note}\",\"{note}\":1}}"),
                ),
                (
                    "samples.json",
                    format!(
                        "{{\"kind\":\"table\",\"title\":\"{note}\",\"columns\":[\"{note}\"],\
                         \"rows\":[[\"{note}\"]]}}"
                    ),
                ),
                ("plots/confusion.svg", format!("<svg>{note}</svg>\n")),
                ("plots/loss.svg", "<svg></svg>".into()),
            ],
        )
    }

    #[test]
    fn a_page_shows_what_a_run_has() {
        let folder = tempfile::tempdir().unwrap();
        let run = whole(&folder.path().join("run-1"), "plain");
        let page = page(&[run]).unwrap();
        for part in [
            "<h1>run-1</h1>",
            "task: classify",
            ">Loss</h3>",
            ">Validation: accuracy</h3>",
            ">Learning rate</h3>",
            ">Gradient norm</h3>",
            ">Targets per second</h3>",
            "<dt>accuracy</dt><dd>0.7500</dd>",
            "<dt>best after step</dt><dd>200</dd>",
            "<dt>time</dt><dd>20s</dd>",
            "note = &quot;plain&quot;",
            "<h2>Confusion</h2>",
        ] {
            assert!(page.contains(part), "{part}");
        }
        // Nothing was skipped, and the plot of the loss is drawn anew.
        assert!(!page.contains("Skipped steps"));
        assert_eq!(page.matches("<img").count(), 1);
        assert!(!page.contains("Not everything could be read"));
    }

    #[test]
    fn nothing_of_a_file_becomes_markup() {
        let folder = tempfile::tempdir().unwrap();
        let one = whole(&folder.path().join("<script>one"), EVIL);
        let two = whole(&folder.path().join("<script>two"), "other");
        for page in [page(std::slice::from_ref(&one)), page(&[one.clone(), two])] {
            let page = page.unwrap();
            assert!(!page.contains("<script"));
            assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
            // Nothing is fetched from anywhere but the names of XML.
            assert!(!page.replace("http://www.w3.org", "").contains("http://"));
            assert!(!page.contains("https://"));
        }
    }

    #[test]
    fn several_runs_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let runs = ["a/run", "b/run"].map(|name| whole(&folder.path().join(name), "same"));
        let path = folder.path().join("b/run");
        fs::write(
            path.join("metrics.csv"),
            "step,epoch,train_loss,valid_loss\n100,1,0.9,0.125\n",
        )
        .unwrap();
        let same = page(&runs).unwrap();
        assert!(same.contains("0.1250 ★"));
        assert!(same.contains("are the same."));
        // Of one name: called by their paths.
        assert!(same.contains(&format!("</span>{}</li>", path.display())));
        fs::write(
            path.join("config.toml"),
            "task = \"classify\"\nnote = \"x\"\n",
        )
        .unwrap();
        let other = page(&runs).unwrap();
        assert!(other.contains("<td>note</td>"));
        assert!(!other.contains("<td>task</td>"));
    }

    #[test]
    fn damage_is_said_in_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let garbage = "\u{0}\u{1}garbage".to_string();
        let names = [
            "config.toml",
            "metrics.csv",
            "steps.csv",
            "timing.csv",
            "system.json",
            "samples.json",
            "log.jsonl",
            "plots/forecast.svg",
        ];
        let run = write(folder.path(), &names.map(|name| (name, garbage.clone())));
        let page = page(&[run]).unwrap();
        for name in names {
            assert!(page.contains(&format!("<li>{name}: ")), "{name}");
        }
        assert!(page.contains("Not validated yet"));
    }

    /// As a run that is killed may leave them, and a disk that fails.
    #[test]
    fn files_may_end_anywhere_and_hold_anything() {
        let folder = tempfile::tempdir().unwrap();
        let run = whole(folder.path(), "plain");
        for name in [
            "config.toml",
            "metrics.csv",
            "steps.csv",
            "timing.csv",
            "system.json",
            "samples.json",
            "plots/confusion.svg",
        ] {
            let path = folder.path().join(name);
            let content = fs::read(&path).unwrap();
            for part in 0..=8 {
                let cut = content.len() * part / 8;
                fs::write(&path, &content[..cut]).unwrap();
                page(std::slice::from_ref(&run)).unwrap();
                let mut wrong = content.clone();
                wrong[cut.min(content.len() - 1)] ^= 0x81;
                fs::write(&path, &wrong).unwrap();
                page(std::slice::from_ref(&run)).unwrap();
            }
            fs::write(&path, content).unwrap();
        }
        let page = page(&[run]).unwrap();
        assert!(!page.contains("Not everything could be read"));
    }

    #[test]
    fn too_few_and_too_many_runs_are_errors() {
        assert!(matches!(page(&[]), Err(ReportError::Runs { found: 0, .. })));
        let folder = tempfile::tempdir().unwrap();
        let run = write(folder.path(), &[("config.toml", "task = \"x\"\n".into())]);
        let many = |count: usize| page(&vec![run.clone(); count]);
        assert!(many(MOST_RUNS).is_ok());
        assert!(matches!(many(MOST_RUNS + 1), Err(ReportError::Runs { .. })));
    }
}
