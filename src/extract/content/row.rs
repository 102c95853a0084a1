//! A row of features: numbers as bytes, so that a decision tree compares bytes and a page's rows stay in the cache.

/// Collects the features of one block, and their names once.
#[derive(Debug, Default)]
pub struct Row {
    /// The features so far.
    pub values: Vec<u8>,
    /// Their names, when asked for.
    pub names: Option<Vec<String>>,
}

impl Row {
    /// Adds a feature as it is.
    pub fn byte(&mut self, name: &str, value: u8) {
        self.values.push(value);
        if let Some(names) = &mut self.names {
            names.push(name.to_owned());
        }
    }

    /// Adds yes or no.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.byte(name, u8::from(value));
    }

    /// Adds a count, 255 at most.
    pub fn count(&mut self, name: &str, value: u32) {
        self.byte(name, value.min(255) as u8);
    }

    /// Adds a size on a logarithmic scale: 16 steps an octave, 65,535 and more are 255.
    pub fn size(&mut self, name: &str, value: u32) {
        self.byte(name, log(value));
    }

    /// Adds `part / whole` as 0 to 255; 0 when there is no whole.
    pub fn share(&mut self, name: &str, part: u32, whole: u32) {
        self.byte(name, share(part, whole));
    }
}

/// See [`Row::size`].
pub fn log(value: u32) -> u8 {
    let value = value.saturating_add(1);
    let octave = value.ilog2();
    let within = ((u64::from(value) << 4) >> octave) & 15;
    (u64::from(octave) * 16 + within).min(255) as u8
}

/// See [`Row::share`].
pub fn share(part: u32, whole: u32) -> u8 {
    if whole == 0 {
        return 0;
    }
    (u64::from(part.min(whole)) * 255 / u64::from(whole)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales() {
        assert_eq!([0, 1, 2, 3, 7].map(log), [0, 16, 24, 32, 48]);
        assert_eq!([65_534, u32::MAX].map(log), [255, 255]);
        assert_eq!([share(0, 0), share(1, 2), share(3, 2)], [0, 127, 255]);
    }
}
