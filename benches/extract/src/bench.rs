//! CPU and allocations a page, one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::time::{ClockId, clock_gettime};
use tidemill::extract::content::{self, features::Parts};
use tidemill::extract::tree::Tree;
use tidemill::extract::{Limits, extract};

use super::{Page, Result};

/// Rounds over the corpus; of each page the fastest counts.
const ROUNDS: usize = 3;

/// The system's allocator, counted.
pub struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size() as u64, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(size as u64, Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

type Extractor = (&'static str, fn(&Page));

const OURS: &[Extractor] = &[
    ("tree alone", |page| drop(black_box(Tree::parse(&page.html, &Limits::default())))),
    ("tree and features", |page| {
        let tree = Tree::parse(&page.html, &Limits::default());
        drop(black_box(Parts::of(&tree, Some(&page.url)).rows(&[], None)));
    }),
    ("text and Markdown", |page| {
        let tree = Tree::parse(&page.html, &Limits::default());
        drop(black_box(content::find(&tree, Some(&page.url), &|href| Some(href.to_owned()))));
    }),
    ("tidemill, all", |page| drop(black_box(extract(&page.html, Some(&page.url), &Limits::default())))),
];

#[cfg(feature = "peers")]
const PEERS: &[Extractor] = &[
    ("trafilatura 0.6, fallback", |page| trafilatura(page, true)),
    ("trafilatura 0.6", |page| trafilatura(page, false)),
    ("rs-trafilatura 0.2", |page| {
        let options = rs_trafilatura::Options { url: Some(page.url.clone()), ..Default::default() };
        drop(black_box(rs_trafilatura::extract_with_options(&page.html, &options)));
    }),
    ("dom_smoothie 0.19", |page| {
        if let Ok(mut reader) = dom_smoothie::Readability::new(page.html.as_str(), Some(&page.url), None) {
            drop(black_box(reader.parse()));
        }
    }),
];

#[cfg(not(feature = "peers"))]
const PEERS: &[Extractor] = &[];

#[cfg(feature = "peers")]
fn trafilatura(page: &Page, fallback: bool) {
    let options = trafilatura::Options::default().with_fallback(fallback);
    drop(black_box(trafilatura::extract(&page.html, &options)));
}

/// CPU time of this thread.
fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[derive(Default)]
struct Cost {
    pages: u64,
    nanos: u64,
    allocations: u64,
    bytes: u64,
}

/// Prints a table for each extractor's cost by set and kind.
pub fn run(pages: &[Page]) -> Result<()> {
    println!("| extractor | pages | CPU ms a page | allocations | KiB allocated |\n|---|---|---|---|---|");
    for (name, extract) in OURS.iter().chain(PEERS) {
        let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
        for page in pages {
            let mut best = u64::MAX;
            let before = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
            for _ in 0..ROUNDS {
                let start = cpu_nanos();
                extract(page);
                best = best.min(cpu_nanos() - start);
            }
            let allocations = (ALLOCATIONS.load(Relaxed) - before.0) / ROUNDS as u64;
            let bytes = (BYTES.load(Relaxed) - before.1) / ROUNDS as u64;
            for of in [page.set.clone(), format!("{} {}", page.set, page.kind)] {
                let cost = costs.entry(of).or_default();
                cost.pages += 1;
                cost.nanos += best;
                cost.allocations += allocations;
                cost.bytes += bytes;
            }
        }
        for (of, cost) in costs.iter().filter(|(of, _)| *of != "seb article") {
            let mean = |sum: u64| sum / cost.pages;
            println!(
                "| {name} | {of} {} | {:.2} | {} | {} |",
                cost.pages,
                mean(cost.nanos) as f64 / 1e6,
                mean(cost.allocations),
                mean(cost.bytes) >> 10
            );
        }
    }
    Ok(())
}
