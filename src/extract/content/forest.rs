//! Boosted decision trees, as `benches/extract/train.py` writes them.
//!
//! ```text
//! file    = "TMF1" · number of forests u8 · forest …
//! forest  = width u16 · outputs u8 · base f32 (one an output) · trees u16 (of all outputs, in turn) · tree …
//! tree    = inner nodes u8 · node … · leaf f32 …            (leaves: one more than inner nodes)
//! node    = feature u16 · threshold u8 · below u8 · above u8
//! ```
//! Little-endian. A feature up to the threshold goes below. A child under 128 is the inner node of that number; from 128
//! on it is the leaf of that number less 128.

/// A node of a tree.
#[derive(Debug, Clone, Copy)]
struct Node {
    feature: u16,
    threshold: u8,
    below: u8,
    above: u8,
}

/// Where a tree's nodes and leaves begin.
#[derive(Debug, Clone, Copy)]
struct Root {
    node: u32,
    leaf: u32,
    single: bool,
}

/// Trees whose leaves add up to a score an output.
#[derive(Debug, Default)]
pub struct Forest {
    /// Features of a row.
    pub width: usize,
    base: Vec<f32>,
    roots: Vec<Root>,
    nodes: Vec<Node>,
    leaves: Vec<f32>,
}

const LEAF: u8 = 128;

impl Forest {
    /// The forests of a file; None if it is not one.
    pub fn read_all(mut file: &[u8]) -> Option<Vec<Self>> {
        let rest = &mut file;
        (take(rest, 4)? == b"TMF1").then_some(())?;
        let forests = take(rest, 1)?[0];
        let read = (0..forests).map(|_| Self::read(rest)).collect::<Option<_>>()?;
        rest.is_empty().then_some(read)
    }

    fn read(rest: &mut &[u8]) -> Option<Self> {
        let mut this = Self { width: usize::from(u16_of(rest)?), ..Self::default() };
        let outputs = take(rest, 1)?[0];
        for _ in 0..outputs {
            this.base.push(f32_of(rest)?);
        }
        for _ in 0..u16_of(rest)? {
            let inner = take(rest, 1)?[0];
            this.roots.push(Root { node: this.nodes.len() as u32, leaf: this.leaves.len() as u32, single: inner == 0 });
            let fits = |child: u8| if child < LEAF { child < inner } else { child - LEAF <= inner };
            for _ in 0..inner {
                let feature = u16_of(rest)?;
                let &[threshold, below, above] = take(rest, 3)? else { return None };
                (usize::from(feature) < this.width && fits(below) && fits(above)).then_some(())?;
                this.nodes.push(Node { feature, threshold, below, above });
            }
            for _ in 0..=inner {
                this.leaves.push(f32_of(rest)?);
            }
        }
        Some(this)
    }

    /// The sum of one output for a row of [`Forest::width`] features; of several outputs one after the other.
    pub fn sums(&self, row: &[u8]) -> Vec<f32> {
        let mut sums = self.base.clone();
        let outputs = sums.len().max(1);
        for (at, root) in self.roots.iter().enumerate() {
            sums[at % outputs] += self.leaf(root, row);
        }
        sums
    }

    /// The sum of a forest with one output.
    pub fn sum(&self, row: &[u8]) -> f32 {
        let base = self.base.first().copied().unwrap_or(0.0);
        self.roots.iter().fold(base, |sum, root| sum + self.leaf(root, row))
    }

    fn leaf(&self, root: &Root, row: &[u8]) -> f32 {
        let nodes = &self.nodes[root.node as usize..];
        let mut at = if root.single { LEAF } else { 0 };
        while at < LEAF {
            let node = nodes[usize::from(at)];
            at = if row[usize::from(node.feature)] <= node.threshold { node.below } else { node.above };
        }
        self.leaves[root.leaf as usize + usize::from(at - LEAF)]
    }
}

/// The probability that a sum of log-odds stands for.
pub fn probability(sum: f32) -> f32 {
    1.0 / (1.0 + (-sum).exp())
}

fn take<'a>(rest: &mut &'a [u8], many: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(many)?;
    *rest = left;
    Some(taken)
}

fn u16_of(rest: &mut &[u8]) -> Option<u16> {
    take(rest, 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn f32_of(rest: &mut &[u8]) -> Option<f32> {
    take(rest, 4)?.try_into().ok().map(f32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(below: u8) -> Vec<u8> {
        let mut file = b"TMF1\x01\x02\x00\x01".to_vec();
        file.extend(0.5f32.to_le_bytes());
        file.extend([2, 0]);
        file.extend([1, 1, 0, 9, below, 129]);
        file.extend([1.0f32, 2.0].map(f32::to_le_bytes).concat());
        file.push(0);
        file.extend(0.25f32.to_le_bytes());
        file
    }

    #[test]
    fn reads_and_adds_up() {
        let forests = Forest::read_all(&file(128)).unwrap_or_default();
        assert_eq!([forests[0].sum(&[0, 9]), forests[0].sum(&[0, 10])], [1.75, 2.75]);
        assert_eq!(forests[0].sums(&[0, 9]), [1.75]);
        assert_eq!(probability(0.0), 0.5);
    }

    #[test]
    fn a_broken_file_is_none() {
        assert!(Forest::read_all(&file(1)).is_none(), "a child that is not there");
        assert!(Forest::read_all(&file(130)).is_none());
        assert!(Forest::read_all(&file(128)[..20]).is_none());
        assert!(Forest::read_all(b"").is_none());
    }
}
