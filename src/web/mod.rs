//! What every stage that talks HTTP shares: which addresses may be reached ([`guard`]), how names
//! become addresses ([`resolver`]), what a site allows ([`robots`]), how often a host is asked
//! ([`politeness`]) what counts as the same URL ([`url`]), and
//! which encoding a text is in ([`charset`]).

pub mod charset;
pub mod guard;
pub mod politeness;
pub mod resolver;
pub mod robots;
pub mod url;
