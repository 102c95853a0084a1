//! The one place that puts stages, engine, transport, stores and sinks together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::blob::Blobs;
use crate::blob::folder::Folder;
use crate::config::Config;
use crate::engine::attempt::Handler;
use crate::engine::route::Router;
use crate::engine::{self, Runner};
use crate::enrich::stage::Enrich;
use crate::extract::Limits;
use crate::extract::stage::Extract;
use crate::fetch::stage::Fetch;
use crate::index::Index;
use crate::record::now_ms;
use crate::sink::Sink;
use crate::sink::fanout::Fanout;
use crate::sink::jsonl::{JsonLines, Mode};
use crate::sink::sqlite::SqliteIndex;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::telemetry::StageMetrics;
use crate::topology::{self, Ladder, Names, StageName};
use crate::transport::Transport;
use crate::transport::sqlite::Sqlite;

/// How often old records, store entries and blobs are swept.
const SWEEP: Duration = Duration::from_secs(600);

/// Everything a run needs, opened.
pub struct Pipeline {
    /// What was configured.
    pub config: Config,
    /// Topic names.
    pub names: Names,
    /// The log.
    pub transport: Arc<dyn Transport>,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    index: Arc<SqliteIndex>,
    sink: Arc<dyn Sink>,
}

/// The log alone, its topics made: for commands that submit and look.
pub async fn open_log(config: &Config) -> Result<(Arc<dyn Transport>, Names)> {
    let names = Names::new(&config.prefix);
    let transport: Arc<dyn Transport> = Arc::new(Sqlite::open(&config.log_file())?);
    let topics: Vec<_> =
        topology::topics().into_iter().map(|t| topology::Topic { name: names.full(&t.name), ..t }).collect();
    transport.create_topics(&topics).await?;
    Ok((transport, names))
}

/// The index alone, for search.
pub fn open_index(config: &Config) -> Result<SqliteIndex> {
    Ok(SqliteIndex::open(&config.index_file())?)
}

impl Pipeline {
    /// Opens or creates everything in the data folder.
    pub async fn open(config: Config) -> Result<Pipeline> {
        let (transport, names) = open_log(&config).await?;
        let index = Arc::new(open_index(&config)?);
        Ok(Pipeline {
            names,
            transport,
            store: Arc::new(SqliteStore::open(&config.store_file())?),
            blobs: Arc::new(Folder::open(&config.blob_dir())?),
            sink: Arc::clone(&index) as Arc<dyn Sink>,
            index,
            config,
        })
    }

    /// Writes each document to a JSON-lines file too. A resumed file keeps what it has and gets nothing twice.
    pub fn also_write(&mut self, file: &Path, resume: bool) -> Result<()> {
        let lines = JsonLines::open(file, if resume { Mode::Resume } else { Mode::Fresh })?;
        self.sink = Arc::new(Fanout::new(vec![Arc::clone(&self.index) as Arc<dyn Sink>, Arc::new(lines)]));
        Ok(())
    }

    /// A stage, ready to handle records.
    pub fn handler(&self, stage: StageName) -> Result<Arc<dyn Handler>> {
        Ok(match stage {
            StageName::Fetch => Arc::new(self.fetch()?),
            StageName::Extract => Arc::new(self.extract()?),
            StageName::Enrich => Arc::new(self.enrich()),
            StageName::Index => Arc::new(self.index()),
        })
    }

    /// The fetch stage.
    pub fn fetch(&self) -> Result<Fetch> {
        Ok(Fetch::new(&self.config, Arc::clone(&self.store), Arc::clone(&self.blobs))?)
    }

    /// The extract stage.
    pub fn extract(&self) -> Result<Extract> {
        extract_stage(&self.config, Arc::clone(&self.blobs))
    }

    /// The enrich stage.
    pub fn enrich(&self) -> Enrich {
        Enrich { store: Arc::clone(&self.store), keep: self.config.store.keep }
    }

    /// The index stage.
    pub fn index(&self) -> Index {
        Index { sink: Arc::clone(&self.sink) }
    }

    /// Runs these stages until `stop`, or until one of them cannot go on.
    pub async fn run(&self, stages: &[StageName], ladder: Ladder, stop: CancellationToken) -> Result<()> {
        let engine = &self.config.engine;
        let mut running = JoinSet::new();
        for &stage in stages {
            let runner = Runner {
                handler: self.handler(stage)?,
                router: Router::new(topology::stage(stage), self.names.clone(), ladder.delays()),
                limits: engine::Limits {
                    in_flight: self.config.in_flight(stage),
                    in_flight_bytes: usize::try_from(engine.in_flight_bytes.as_u64()).unwrap_or(usize::MAX),
                    deadline: engine.deadline,
                    commit_interval: engine.commit_interval,
                    grace: engine.grace,
                },
                metrics: StageMetrics::new(stage),
            };
            let (transport, stop) = (Arc::clone(&self.transport), stop.clone());
            running.spawn(async move { (stage, runner.run(&*transport, stop).await) });
        }
        let sweeper = tokio::spawn(sweep(
            Arc::clone(&self.transport),
            Arc::clone(&self.store),
            Arc::clone(&self.blobs),
            self.config.blob.keep,
        ));
        let mut first_error = None;
        while let Some(ended) = running.join_next().await {
            let error = match ended {
                Ok((_, Ok(()))) => None,
                Ok((stage, Err(e))) => Some(anyhow::Error::from(e).context(format!("{stage} stopped"))),
                Err(e) => Some(anyhow::Error::from(e).context("a stage's loop ended abnormally")),
            };
            if let Some(e) = error {
                first_error.get_or_insert(e);
                stop.cancel();
            }
        }
        sweeper.abort();
        let flushed = self.sink.flush().await.context("the sink could not be flushed");
        first_error.map_or(flushed, Err)
    }
}

/// The extract stage over any blob store.
pub fn extract_stage(config: &Config, blobs: Arc<dyn Blobs>) -> Result<Extract> {
    Ok(Extract {
        blobs,
        pool: crate::extract::pool(config.extract.threads())?,
        limits: Limits { max_bytes: config.extract.max_bytes(), ..Limits::default() },
        deadline: config.extract.deadline,
    })
}

async fn sweep(transport: Arc<dyn Transport>, store: Arc<dyn Store>, blobs: Arc<dyn Blobs>, keep: Duration) {
    loop {
        tokio::time::sleep(SWEEP).await;
        match transport.sweep().await {
            Ok(0) => {}
            Ok(records) => tracing::info!(records, "old records swept"),
            Err(e) => tracing::warn!(error = %e, "old records could not be swept"),
        }
        if let Err(e) = store.sweep(now_ms()).await {
            tracing::warn!(error = %e, "old store entries could not be swept");
        }
        if let Err(e) = blobs.sweep(keep).await {
            tracing::warn!(error = %e, "old blobs could not be swept");
        }
    }
}
