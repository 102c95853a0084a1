//! Tables of any page: rows of one length, within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::extract::tree::Tree;
use tidemill::extract::{Limits, tables};

fuzz_target!(|html: &str| {
    let limits = Limits { max_depth: 16, max_tags: 2_000, ..Limits::default() };
    for table in tables::read(&Tree::parse(html, &limits)) {
        let columns = table.rows[0].len();
        assert!(columns > 1 && table.rows.len() > 1 && table.rows.iter().all(|row| row.len() == columns));
        assert!(usize::try_from(table.header_rows).is_ok_and(|rows| rows <= table.rows.len()));
    }
});
