//! Tables of data as rows of cells. Tables that only place things are left out.

use super::tree::{Id, Tree, tags};
use crate::record::Table;

/// Tables of a page, rows and columns of a table.
const MAX: (usize, usize, usize) = (50, 1_000, 64);
/// Bytes of a cell, and of all cells of a page, repeated ones counted each time.
const MAX_TEXT: (usize, usize) = (500, 128 << 10);
/// Mean bytes of a cell above which a table without headers is no table of data; nor is one with a cell that was cut.
const LONG: usize = 200;

/// A cell as it stands in its row.
struct Cell {
    text: String,
    header: bool,
    columns: usize,
    rows: usize,
}

/// A row as it stands in the table.
struct Row {
    cells: Vec<Cell>,
    /// In a `thead`.
    head: bool,
    /// The element that it is in: spans end with it.
    group: Id,
}

/// The tables of data of `tree`. Time is linear in its size.
pub fn read(tree: &Tree) -> Vec<Table> {
    let mut found = Vec::new();
    let mut left = MAX_TEXT.1;
    for id in tree.all().filter(|id| tree.tag(*id) == tags::TABLE) {
        if found.len() == MAX.0 || left == 0 {
            break;
        }
        if is_data(tree, id)
            && let Some(table) = one(tree, id, &mut left)
        {
            found.push(table);
        }
    }
    found
}

/// Not one of layout: those hold tables or fields of forms, or say so.
fn is_data(tree: &Tree, id: Id) -> bool {
    let role = tree.attribute(id, "role").unwrap_or_default();
    let layout = ["presentation", "none"].iter().any(|word| role.trim_ascii().eq_ignore_ascii_case(word));
    !layout && !tree.inside(id).any(|at| matches!(tree.tag(at), tags::TABLE | tags::TEXTAREA | tags::SELECT))
}

fn one(tree: &Tree, id: Id, left: &mut usize) -> Option<Table> {
    let mut caption = None;
    let mut rows: Vec<Row> = Vec::new();
    let mut truncated = false;
    let (mut bytes, mut room, mut long) = (0, *left, false);
    for at in tree.inside(id) {
        match tree.tag(at) {
            tags::CAPTION if caption.is_none() => {
                caption = Some(tree.text_of(at, MAX_TEXT.0)).filter(|c| !c.is_empty())
            }
            tags::TR if rows.len() == MAX.1 => {
                truncated = true;
                break;
            }
            tags::TR => {
                let group = tree.parent(at);
                rows.push(Row { cells: Vec::new(), head: tree.tag(group) == tags::THEAD, group });
            }
            tag @ (tags::TD | tags::TH) => {
                let Some(row) = rows.last_mut() else { continue };
                if row.cells.len() == MAX.2 || room == 0 {
                    truncated = true;
                    continue;
                }
                let text = tree.text_of(at, MAX_TEXT.0.min(room));
                bytes += text.len();
                long |= text.len() + 4 > MAX_TEXT.0;
                room -= text.len();
                row.cells.push(Cell {
                    text,
                    header: tag == tags::TH,
                    columns: span(tree, at, "colspan").clamp(1, MAX.2),
                    rows: span(tree, at, "rowspan"),
                });
            }
            _ => {}
        }
    }
    let cells: usize = rows.iter().map(|row| row.cells.len()).sum();
    let headers = caption.is_some() || rows.iter().any(|row| row.head || row.cells.iter().any(|cell| cell.header));
    if bytes == 0 || !headers && (long || bytes / cells.max(1) > LONG) {
        return None;
    }
    let header_rows = rows.iter().take_while(|row| row.head || is_header(row)).count();
    let columns = columns(&rows);
    let down = std::iter::repeat_with(|| None).take(columns).collect();
    let mut grid = Grid { rows: Vec::new(), columns, down, left, truncated };
    rows.into_iter().for_each(|row| grid.row(row));
    let Grid { rows, truncated, .. } = grid;
    let header_rows = i32::try_from(header_rows.min(rows.len())).unwrap_or(0);
    // A single row or column is a list, or a box.
    (columns > 1 && rows.len() > 1).then_some(Table { caption, header_rows, rows, truncated })
}

/// All its cells are headers, or empty ones above headers of rows.
fn is_header(row: &Row) -> bool {
    row.cells.iter().any(|cell| cell.header) && row.cells.iter().all(|cell| cell.header || cell.text.is_empty())
}

/// A number of rows or columns as written; 1 if there is none, 0 for "all that follow".
fn span(tree: &Tree, id: Id, name: &str) -> usize {
    tree.attribute(id, name).and_then(|n| n.trim_ascii().parse().ok()).unwrap_or(1)
}

/// What reaches down into a column from above.
struct Above {
    text: String,
    rows: usize,
    group: Id,
}

/// The cells, each where it reaches (HTML standard, 4.9.12).
struct Grid<'l> {
    rows: Vec<Vec<String>>,
    /// Columns there may be.
    columns: usize,
    down: Vec<Option<Above>>,
    left: &'l mut usize,
    truncated: bool,
}

impl Grid<'_> {
    fn row(&mut self, row: Row) {
        let mut cells = Vec::new();
        for cell in row.cells {
            while self.take_above(&mut cells, row.group) {}
            for _ in 0..cell.columns.min(self.columns.saturating_sub(cells.len())) {
                let rows = if cell.rows == 0 { usize::MAX } else { cell.rows - 1 };
                self.down[cells.len()] = (rows > 0).then(|| Above { text: cell.text.clone(), rows, group: row.group });
                self.put(&mut cells, &cell.text);
            }
        }
        while cells.len() < self.columns {
            if !self.take_above(&mut cells, row.group) {
                cells.push(String::new());
            }
        }
        if cells.iter().any(|cell| !cell.is_empty()) {
            self.rows.push(cells);
        }
    }

    /// Fills the next column from above, if something reaches down into it.
    fn take_above(&mut self, cells: &mut Vec<String>, group: Id) -> bool {
        let Some(slot) = self.down.get_mut(cells.len()) else { return false };
        let Some(mut above) = slot.take_if(|above| above.group == group && above.rows > 0) else { return false };
        let at = cells.len();
        self.put(cells, &above.text);
        above.rows -= 1;
        self.down[at] = Some(above);
        true
    }

    fn put(&mut self, cells: &mut Vec<String>, text: &str) {
        let fits = text.len() <= *self.left;
        self.truncated |= !fits;
        *self.left -= if fits { text.len() } else { 0 };
        cells.push(if fits { text.to_owned() } else { String::new() });
    }
}

/// How many columns the rows of several cells reach over: a single cell may claim any number.
fn columns(rows: &[Row]) -> usize {
    let several = rows.iter().filter(|row| row.cells.len() > 1);
    let reach = several.map(|row| row.cells.iter().map(|cell| cell.columns).sum::<usize>()).max();
    reach.unwrap_or(1).min(MAX.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;

    fn of(html: &str) -> Vec<Table> {
        read(&Tree::parse(html, &Limits::default()))
    }

    fn rows(html: &str) -> Vec<String> {
        of(html).first().map(|table| table.rows.iter().map(|row| row.join("|")).collect()).unwrap_or_default()
    }

    #[test]
    fn headers_caption_and_cells() {
        let html = "<table><caption>C</caption><thead><tr><td>a<td>b</thead><tr><th>c<th>d<tr><th>x<td>1 <b>2</b>\
            <tr></tr><tr><td>y</table>";
        let expected = Table {
            caption: Some("C".into()),
            header_rows: 2,
            rows: [["a", "b"], ["c", "d"], ["x", "1 2"], ["y", ""]].map(|row| row.map(str::to_owned).to_vec()).to_vec(),
            truncated: false,
        };
        assert_eq!(of(html), [expected]);
    }

    #[test]
    fn cells_over_several_rows_and_columns() {
        let html = "<table><tr><td rowspan=2>a<td colspan=2>b<tr><td>c<td>d<tr><td colspan=99>e</table>";
        assert_eq!(rows(html), ["a|b|b", "a|c|d", "e|e|e"]);
        // To the end of their part of the table, and no further.
        let html = "<table><tbody><tr><td rowspan=0>a<td>b<tr><td>c</tbody><tbody><tr><td>d<td>e</table>";
        assert_eq!(rows(html), ["a|b", "a|c", "d|e"]);
        assert_eq!(rows("<table><tr><td>a<td rowspan=2>b<td>c<tr><td>d<td>e</table>"), ["a|b|c", "d|b|e"]);
    }

    #[test]
    fn tables_that_hold_no_data() {
        let pair = "<tr><td>a<td>b<tr><td>c<td>d";
        assert_eq!(of(&format!("<table>{pair}</table>")).len(), 1);
        for html in [
            format!("<table role=presentation>{pair}</table>"),
            format!("<table>{pair}<tr><td><textarea>x</textarea></table>"),
            "<table><tr><td>a<tr><td>b</table>".to_owned(),
            "<table><tr><td>a<td>b</table>".to_owned(),
            "<table><tr><td><td><tr><td><td></table>".to_owned(),
            format!("<table><tr><td>{}<td>b<tr><td>c<td>d</table>", "long text ".repeat(200)),
        ] {
            assert_eq!(of(&html), [], "{html}");
        }
        let outer = of(&format!("<table><tr><td>x<td><table>{pair}</table><tr><td>y<td>z</table>"));
        assert_eq!(outer.iter().map(|table| table.rows.len()).collect::<Vec<_>>(), [2], "only the inner one");
    }

    #[test]
    fn spans_and_text_are_bounded() {
        let cell = "<td rowspan=65534 colspan=1000>".to_owned() + &"x".repeat(400);
        let found = of(&format!("<table><tr>{}{}</table>", cell.repeat(9), "<tr><td>y".repeat(5_000)));
        let bytes: usize = found[0].rows.iter().flatten().map(String::len).sum();
        assert!(found[0].truncated && bytes <= MAX_TEXT.1, "{bytes}");
        assert!(found[0].rows.len() <= MAX.1 && found[0].rows.iter().all(|row| row.len() == MAX.2));
        let many = of(&"<table><tr><td>a<td>b<tr><td>c<td>d</table>".repeat(1_000));
        assert_eq!(many.len(), MAX.0);
    }
}
