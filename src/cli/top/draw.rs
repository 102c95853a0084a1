//! The screen: a row a stage, and beneath it as many panes as fit.
//!
//! ```text
//! wide                                tall                   small
//! stages                              stages                 stages
//! partitions │ failures               partitions             the pane that Tab chose
//!            │ jobs                   failures
//!                                     jobs
//! ```

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::view::{Pane, View};
use crate::cli::decoded::visible;
use crate::cli::format::count;
use crate::cli::report::outcome_name;
use crate::cli::tail::show::fit;
use crate::monitor::{JobProgress, PartitionLag, Snapshot, Stage};
use crate::record::{OutcomeKind, StatusEvent, time};
use crate::topology::StageName;

/// From this width on, partitions have the left side; and how much of it.
const WIDE: u16 = 110;
const SIDE: u16 = 58;
/// From this height on (beneath the stages), all panes are stacked.
const TALL: u16 = 12;

const KEYS: &str = "q quit  j k stage  Tab pane  p pause  ? help";
const HELP: &str = " in/s   records that came to the stage's inputs
 out/s  records it is through with; what moved to
        a retry topic is not
 lag    records on its inputs that are not done
 gap    widest stretch from the first record that
        is not done to the last one that is
 open   records in these stretches not done
 retry  records waiting on each retry topic
 dead   dead letters not replayed; +N since start

 ↑ ↓ j k     select a stage, or scroll a pane
 Tab         next pane       PgUp PgDn Home End
 p           pause           q Esc   quit";

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws everything; any size will do.
pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let rows = StageName::ALL.len() as u16 + 1;
    let areas =
        Layout::vertical([Constraint::Length(1), Constraint::Length(rows), Constraint::Min(0), Constraint::Length(1)]);
    let [title, stages, panes, keys] = areas.areas(frame.area());
    frame.render_widget(head(view, title.width), title);
    frame.render_widget(Line::styled(KEYS, DIM), keys);
    match &view.snapshot {
        None => frame.render_widget(Line::from("looking …"), stages),
        Some(s) => {
            frame.render_widget(stage_rows(s, view, usize::from(stages.width)), stages);
            for (pane, area) in arrange(view, panes) {
                draw_pane(frame, view, s, pane, area);
            }
        }
    }
    if view.help {
        let lines = HELP.lines().count() as u16 + 2;
        let area = frame.area().centered(Constraint::Length(54), Constraint::Length(lines));
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys and columns ")), area);
    }
}

fn head(view: &View, width: u16) -> Line<'static> {
    let mut spans = vec![Span::styled("tidemill", BOLD)];
    if let Some(s) = &view.snapshot {
        spans.push(format!("  {}", clock(s.at)).into());
        if view.paused {
            spans.push(Span::styled("  paused", Style::new().fg(Color::Yellow)));
        }
        if !s.caught_up {
            spans.push(Span::styled("  reading what was", DIM));
        }
    }
    match &view.trouble {
        Some(why) => spans.push(Span::styled(format!("  {}", visible(why)), Style::new().fg(Color::Red))),
        None => spans.push(Span::styled(format!("  {}", view.place), DIM)),
    }
    let mut line = Line::from(spans);
    // The end of a long one is what matters least.
    if line.width() > usize::from(width) {
        line.spans.truncate(4);
    }
    line
}

/// A column of the stage table: heading, width, what matters first, the cell.
type Column = (&'static str, usize, u8, fn(&Stage) -> String);

const COLUMNS: [Column; 12] = [
    ("in/s", 7, 3, |s| s.rate.map_or("-".into(), |r| rate(r.inward))),
    ("out/s", 7, 0, |s| s.rate.map_or("-".into(), |r| rate(r.outward))),
    ("lag", 7, 0, |s| count(s.lag)),
    ("gap", 7, 4, |s| count(s.gap)),
    ("open", 6, 4, |s| count(s.incomplete)),
    ("retry", 6, 1, |s| count(s.retries.iter().sum::<i64>())),
    ("1st", 5, 5, |s| count(s.retries[0])),
    ("2nd", 5, 5, |s| count(s.retries[1])),
    ("3rd", 5, 5, |s| count(s.retries[2])),
    ("4th", 5, 5, |s| count(s.retries[3])),
    ("dead", 6, 1, |s| count(s.dead_letters)),
    ("new", 5, 2, |s| match s.new_dead_letters {
        0 => String::new(),
        n => format!("+{}", count(n)),
    }),
];

/// Columns of the first one, with the mark of the selected stage.
const NAME: usize = 9;
/// Least width of a sparkline.
const SPARK: usize = 8;

fn stage_rows<'a>(s: &Snapshot, view: &View, width: usize) -> Text<'a> {
    // The most important columns first, as long as there is room; a column never comes without its equals.
    let mut shown = 0;
    for level in 0..=5 {
        let wanted: usize = COLUMNS.iter().filter(|c| c.2 <= level).map(|c| c.1 + 1).sum();
        if NAME + wanted <= width || level == 0 {
            shown = level;
        }
    }
    let columns = || COLUMNS.iter().filter(move |c| c.2 <= shown);
    let used = NAME + columns().map(|c| c.1 + 1).sum::<usize>();
    let spark_width = width.saturating_sub(used + 2);
    let spark_width = if spark_width < SPARK { 0 } else { spark_width };
    let mut heading = format!("{:<NAME$}", " stage");
    columns().for_each(|(name, w, ..)| heading.push_str(&format!(" {name:>w$}")));
    if spark_width > 0 {
        heading.push_str("  throughput");
    }
    let mut lines = vec![Line::styled(heading, DIM)];
    for (i, stage) in s.stages.iter().enumerate() {
        let selected = i == view.stage;
        let mut spans = vec![Span::raw(format!("{}{:<8}", if selected { '>' } else { ' ' }, stage.stage.as_str()))];
        for (name, w, _, cell) in columns() {
            let text = format!(" {:>w$}", cell(stage));
            spans.push(Span::styled(text, color(name, stage)));
        }
        if spark_width > 0 {
            spans.push(Span::styled(
                format!("  {}", spark(&view.history[i], spark_width)),
                Style::new().fg(Color::Cyan),
            ));
        }
        let line = Line::from(spans);
        lines.push(if selected { line.style(BOLD) } else { line });
    }
    Text::from(lines)
}

fn color(column: &str, stage: &Stage) -> Style {
    let none = Style::new();
    match column {
        "dead" if stage.dead_letters > 0 => none.fg(Color::Red),
        "new" => none.fg(Color::Red),
        "retry" if stage.retries.iter().any(|n| *n > 0) => none.fg(Color::Yellow),
        _ => none,
    }
}

/// The newest values as bars, the highest at full height.
fn spark(history: &VecDeque<f64>, width: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest = || history.iter().skip(history.len().saturating_sub(width));
    let top = newest().copied().fold(0.0, f64::max);
    let bar = |v: &f64| {
        let eighths = if top > 0.0 { (v / top * 8.0).ceil() as usize } else { 0 };
        BARS[eighths.min(8)]
    };
    newest().map(bar).collect()
}

fn rate(a_second: f64) -> String {
    if a_second < 99.95 { format!("{a_second:.1}") } else { count(a_second.round() as i64) }
}

/// Which panes are shown, and where.
fn arrange(view: &View, area: Rect) -> Vec<(Pane, Rect)> {
    let jobs = view.snapshot.as_ref().map_or(0, |s| s.jobs.len());
    // As many lines as there are jobs, and a title, but never more than a third.
    let job_lines =
        |height: u16| Constraint::Length(u16::try_from(jobs).unwrap_or(height).saturating_add(1).min(height / 3));
    let halves = [Constraint::Fill(1), Constraint::Fill(1)];
    if area.width >= WIDE && area.height >= 6 {
        let [left, right] = Layout::horizontal([Constraint::Length(SIDE), Constraint::Min(0)]).spacing(1).areas(area);
        let [failures, below] = Layout::vertical([Constraint::Min(0), job_lines(area.height)]).areas(right);
        return vec![(Pane::Partitions, left), (Pane::Failures, failures), (Pane::Jobs, below)];
    }
    if area.height >= TALL {
        let [above, below] = Layout::vertical([Constraint::Min(0), job_lines(area.height)]).areas(area);
        let [partitions, failures] = Layout::vertical(halves).areas(above);
        return vec![(Pane::Partitions, partitions), (Pane::Failures, failures), (Pane::Jobs, below)];
    }
    let only = if view.focus == Pane::Stages { Pane::Partitions } else { view.focus };
    vec![(only, area)]
}

fn draw_pane(frame: &mut Frame<'_>, view: &View, s: &Snapshot, pane: Pane, area: Rect) {
    let lines = match pane {
        Pane::Stages => return,
        Pane::Partitions => partitions(s, view.stage),
        Pane::Failures => s.failures.iter().map(failure).collect(),
        Pane::Jobs => s.jobs.iter().map(job).collect(),
    };
    let title = match pane {
        Pane::Partitions => format!(" {} partitions ", s.stages.get(view.stage).map_or("", |s| s.stage.as_str())),
        Pane::Failures => " newest failures ".into(),
        _ => " jobs ".into(),
    };
    let focused = view.focus == pane;
    let style = if focused { BOLD } else { DIM };
    let block = Block::new().borders(Borders::TOP).border_style(style).title(Span::styled(title, style));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let heading = if pane == Pane::Partitions { Some(Line::styled(PARTITIONS, DIM)) } else { None };
    let room = usize::from(inner.height).saturating_sub(usize::from(heading.is_some()));
    // What is there may have become shorter than when it was scrolled.
    let from = view.scroll[pane as usize].min(lines.len().saturating_sub(1));
    let width = usize::from(inner.width);
    let shown = lines.into_iter().skip(from).take(room).map(|(text, style)| Line::styled(fit(&text, width), style));
    frame.render_widget(Text::from(heading.into_iter().chain(shown).collect::<Vec<_>>()), inner);
}

const PARTITIONS: &str = "topic/partition        base       end    lag    gap  open";

/// Those with the most to do first.
fn partitions(s: &Snapshot, stage: usize) -> Vec<(String, Style)> {
    let Some(stage) = s.stages.get(stage) else { return vec![] };
    let all = stage.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t.topic.as_str(), p)));
    let mut all: Vec<(&str, &PartitionLag)> = all.collect();
    all.sort_by_key(|(_, p)| std::cmp::Reverse(p.lag));
    let line = |(topic, p): (&str, &PartitionLag)| {
        let place = format!("{topic}/{}", p.partition);
        let (lag, gap, open) = (count(p.lag), count(p.gap), count(p.incomplete));
        let text = format!("{place:<17} {:>9} {:>9} {lag:>6} {gap:>6} {open:>5}", p.base, p.end);
        (text, if p.lag == 0 { DIM } else { Style::new() })
    };
    all.into_iter().map(line).collect()
}

fn failure(e: &StatusEvent) -> (String, Style) {
    let dead = e.outcome == OutcomeKind::DeadLettered;
    let what = if dead { "dead" } else { outcome_name(e.outcome, &e.stage) };
    let class = e.class.as_deref().unwrap_or("");
    let message = e.message.as_deref().unwrap_or("");
    let text = format!("{} {:<7} {what:<7} {class:<14} {}  {message}", clock(e.at), e.stage, e.url);
    (visible(&text), if dead { Style::new().fg(Color::Red) } else { Style::new() })
}

fn job(j: &JobProgress) -> (String, Style) {
    let (finished, total) = (j.finished, j.total());
    let per_cent = finished.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
    let text = format!(
        "{:<16} {per_cent:>3}% {}/{}  {} indexed, {} dropped, {} dead  {}",
        j.job.id,
        count(finished),
        count(total),
        count(j.indexed),
        count(j.dropped),
        count(j.dead_letters),
        j.job.source
    );
    (visible(&text), if finished < total { Style::new() } else { DIM })
}

/// The time of the day, in UTC as everywhere.
fn clock(ms: i64) -> String {
    time(ms).get(11..19).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::sample::snapshot;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    fn screen(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|f| draw(f, view)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = buffer.content().chunks(usize::from(width).max(1));
        rows.map(|r| r.iter().map(|c| c.symbol()).collect::<String>().trim_end().to_owned() + "\n").collect()
    }

    fn view() -> View {
        let mut v = View::new("sqlite in data".into());
        v.take(snapshot());
        v
    }

    #[test]
    fn a_wide_screen_has_everything() {
        let said = screen(&view(), 160, 30);
        let rows: Vec<&str> = said.lines().collect();
        assert_eq!(rows[0], "tidemill  00:00:05  sqlite in data");
        let words = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            words(rows[1]),
            [
                "stage",
                "in/s",
                "out/s",
                "lag",
                "gap",
                "open",
                "retry",
                "1st",
                "2nd",
                "3rd",
                "4th",
                "dead",
                "new",
                "throughput"
            ]
        );
        assert_eq!(
            words(rows[2]),
            [">fetch", "12.5", "1234", "120k", "40", "3", "10", "1", "2", "3", "4", "7", "+2", "█"]
        );
        assert_eq!(words(rows[3]), ["extract", "0.0", "0.0", "0", "0", "0", "0", "0", "0", "0", "0", "0"]);
        for text in [
            "fetch partitions",
            "urls/1                    5    120005   120k     40     3",
            "00:00:04 fetch   dead    timeout        http://a.test/  no answer",
            "newest failures",
            "j1                50% 1/2  1 indexed, 0 dropped, 0 dead  urls.txt",
            "q quit",
        ] {
            assert!(said.contains(text), "{text:?} is missing:\n{said}");
        }
    }

    #[test]
    fn a_small_screen_has_what_matters_and_tab_changes_the_pane() {
        let mut v = view();
        let said = screen(&v, 40, 10);
        let rows: Vec<&str> = said.lines().collect();
        assert_eq!(rows[1], " stage      out/s     lag  retry   dead");
        assert_eq!(rows[2], ">fetch       1234    120k     10      7");
        assert!(said.contains("fetch partitions") && !said.contains("failures"), "{said}");
        v.key(KeyEvent::from(KeyCode::Down));
        assert!(screen(&v, 40, 10).contains("extract partitions"));
        v.key(KeyEvent::from(KeyCode::Tab));
        v.key(KeyEvent::from(KeyCode::Tab));
        let said = screen(&v, 40, 10);
        assert!(said.contains("newest failures") && said.contains("00:00:04 fetch   dead"), "{said}");
        v.key(KeyEvent::from(KeyCode::Tab));
        assert!(screen(&v, 40, 10).contains("50% 1/2"));
        v.key(KeyEvent::from(KeyCode::Char('?')));
        assert!(screen(&v, 80, 24).contains("records that came to the stage's inputs"));
    }

    #[test]
    fn no_size_and_no_state_is_too_much() {
        let mut hostile = view();
        let s = hostile.snapshot.as_mut().unwrap();
        s.failures[0].message = Some("\u{1b}[2J\n日本語\u{202e}".repeat(40));
        s.failures[0].stage = "no stage of ours".into();
        s.failures[0].at = i64::MAX;
        s.jobs[0].job.source = "x".repeat(5_000);
        (s.jobs[0].job.submitted, s.jobs[0].finished) = (Some(0), u64::MAX / 200);
        s.stages[0].lag = i64::MAX;
        s.stages[0].dead_letters = u64::MAX;
        hostile.history[0].extend([f64::NAN, f64::INFINITY, -1.0, 0.0]);
        hostile.scroll = [usize::MAX; 4];
        hostile.stage = 3;
        hostile.trouble = Some("no".repeat(500));
        let mut none = view();
        let s = none.snapshot.as_mut().unwrap();
        (s.stages, s.failures, s.jobs) = (vec![], vec![], vec![]);
        let waiting = View::new("x".repeat(300));
        for mut v in [view(), hostile, none, waiting] {
            for focus in Pane::ALL {
                v.focus = focus;
                for help in [false, true] {
                    v.help = help;
                    for (w, h) in [
                        (40, 10),
                        (41, 11),
                        (1, 1),
                        (2, 3),
                        (10, 2),
                        (80, 24),
                        (109, 19),
                        (110, 13),
                        (110, 12),
                        (300, 90),
                        (40, 90),
                        (300, 5),
                    ] {
                        let said = screen(&v, w, h);
                        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said}");
                    }
                }
            }
        }
    }

    #[test]
    fn sparks_show_the_newest_the_highest_full() {
        let of = |list: &[f64], width| spark(&list.iter().copied().collect(), width);
        assert_eq!(of(&[0.0, 1.0, 4.0, 8.0], 4), " ▁▄█");
        assert_eq!(of(&[100.0, 1.0, 2.0], 2), "▄█");
        assert_eq!(of(&[0.0, 0.0], 5), "  ");
        assert_eq!(of(&[], 5), "");
    }
}
