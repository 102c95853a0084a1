//! The hosts of the demo web.

use super::text::Lang;

/// What the pages of a host are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A news story, with a byline.
    Article,
    /// A forum thread: a question and its answers.
    Thread,
    /// A product with a price and a table of properties.
    Product,
    /// A manual page: contents, sections, a command.
    Documentation,
}

impl Kind {
    /// The first segment of the paths of such pages: `/article/3`.
    pub fn slug(self) -> &'static str {
        match self {
            Kind::Article => "article",
            Kind::Thread => "thread",
            Kind::Product => "product",
            Kind::Documentation => "docs",
        }
    }
}

/// What a host answers to `/robots.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Robots {
    /// This text.
    Text(&'static str),
    /// 404: everything is allowed (RFC 9309, section 2.3.1.3).
    Missing,
    /// 500: nothing is allowed (RFC 9309, section 2.3.1.4).
    Broken,
}

/// A virtual host of the demo web.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The whole name, `news.demo.test`.
    pub name: &'static str,
    /// The language of its pages.
    pub lang: Lang,
    /// The name of the publication, as in the header of each page.
    pub brand: &'static str,
    /// What its numbered pages are.
    pub kind: Kind,
    /// Pages `/<slug>/1` to `/<slug>/<pages>`. The listing at `/` is one more.
    pub pages: usize,
    /// Its `/robots.txt`.
    pub robots: Robots,
}

const OPEN: Robots = Robots::Text("User-agent: *\nDisallow:\n");
const STRICT: Robots = Robots::Text("User-agent: *\nDisallow: /private/\nAllow: /private/press/\n");
const PATIENT: Robots = Robots::Text("User-agent: *\nCrawl-delay: 1\nDisallow:\n");

const fn host(name: &'static str, lang: Lang, brand: &'static str, kind: Kind) -> Host {
    Host { name, lang, brand, kind, pages: 10, robots: OPEN }
}

/// A host that exists for what goes wrong on it.
const fn odd(name: &'static str) -> Host {
    let host = host(name, Lang::En, "The Odd Gazette", Kind::Article);
    Host { pages: 0, ..host }
}

/// Every host, first those with good pages, then those of the faults.
pub const HOSTS: &[Host] = &[
    host("news.demo.test", Lang::En, "The Coast Herald", Kind::Article),
    host("travel.demo.test", Lang::En, "Slow Roads", Kind::Article),
    host("forum.demo.test", Lang::En, "The Workbench", Kind::Thread),
    host("shop.demo.test", Lang::En, "Harbour Supplies", Kind::Product),
    host("docs.demo.test", Lang::En, "Signal Tower Manual", Kind::Documentation),
    host("noticias.demo.test", Lang::Pt, "Gazeta da Barra", Kind::Article),
    host("viagens.demo.test", Lang::Pt, "Caminhos Lentos", Kind::Article),
    host("loja.demo.test", Lang::Pt, "Loja do Cais", Kind::Product),
    host("conversas.demo.test", Lang::Pt, "Conversas da Oficina", Kind::Thread),
    host("diario.demo.test", Lang::Es, "El Diario del Faro", Kind::Article),
    host("tienda.demo.test", Lang::Es, "La Tienda del Muelle", Kind::Product),
    host("foro.demo.test", Lang::Es, "El Taller", Kind::Thread),
    host("zeitung.demo.test", Lang::De, "Küstenblatt", Kind::Article),
    host("handbuch.demo.test", Lang::De, "Handbuch Signalturm", Kind::Documentation),
    host("werkstatt.demo.test", Lang::De, "Werkstattgespräche", Kind::Thread),
    host("journal.demo.test", Lang::Fr, "Le Courrier du Large", Kind::Article),
    host("guide.demo.test", Lang::Fr, "Guide du Sémaphore", Kind::Documentation),
    host("boutique.demo.test", Lang::Fr, "La Boutique du Quai", Kind::Product),
    host("vesti.demo.test", Lang::Ru, "Береговой вестник", Kind::Article),
    host("spravka.demo.test", Lang::Ru, "Справочник маяка", Kind::Documentation),
    host("shimbun.demo.test", Lang::Ja, "海辺新報", Kind::Article),
    Host { robots: Robots::Missing, ..host("open.demo.test", Lang::En, "Open Gate", Kind::Article) },
    Host { pages: 3, robots: PATIENT, ..host("patient.demo.test", Lang::En, "One at a Time", Kind::Article) },
    Host {
        pages: 2,
        robots: Robots::Broken,
        ..host("norobots.demo.test", Lang::En, "Closed for Repair", Kind::Article)
    },
    Host { robots: STRICT, ..odd("strict.demo.test") },
    odd("redirects.demo.test"),
    odd("errors.demo.test"),
    odd("busy.demo.test"),
    odd("overrun.demo.test"),
    odd("slow.demo.test"),
    odd("stalled.demo.test"),
    odd("silent.demo.test"),
    odd("broken.demo.test"),
    odd("huge.demo.test"),
    odd("endless.demo.test"),
    odd("charset.demo.test"),
    odd("encoded.demo.test"),
    odd("files.demo.test"),
    odd("strange.demo.test"),
    odd("mirror.demo.test"),
    odd("copy.demo.test"),
];

/// The host's entry in [`HOSTS`]; a load host (see [`load_host`]) shares one.
pub(super) fn find(name: &str) -> Option<&'static Host> {
    const LOAD: &Host = &odd("load.demo.test");
    let load = || is_load_host(name).then_some(LOAD);
    HOSTS.iter().find(|host| host.name == name).or_else(load)
}

/// How many hosts a load test can be spread over.
pub const LOAD_HOSTS: usize = 256;

/// The name of the n-th host of load tests, from 0 to [`LOAD_HOSTS`] - 1.
pub(super) fn load_host(n: usize) -> String {
    format!("load-{n}.demo.test")
}

fn is_load_host(name: &str) -> bool {
    name.strip_prefix("load-")
        .and_then(|rest| rest.strip_suffix(".demo.test"))
        .and_then(|digits| digits.parse::<usize>().ok())
        .is_some_and(|n| n < LOAD_HOSTS)
}
