//! A client of an S3 bucket, as configured: used for blobs, and for inputs that lie there.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::config::S3;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that was cut and an answer of 5xx are tried again so often, within the time of a request.
const RETRIES: usize = 2;

/// A client. What the configuration leaves open comes from AWS_* in the environment, then from the machine's role. Nothing
/// is asked yet. `timeout`: of a request.
///
/// # Errors
/// What is wrong with the settings, in a sentence.
pub fn client(config: &S3, bucket: &str, timeout: Duration) -> Result<AmazonS3, String> {
    // Another part of the process may have installed a provider; any will do.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if !config.endpoint.is_empty() {
        builder = builder.with_endpoint(config.endpoint.trim_end_matches('/'));
    }
    if !config.region.is_empty() {
        builder = builder.with_region(&config.region);
    }
    if !config.access_key_id.is_empty() {
        builder =
            builder.with_access_key_id(&config.access_key_id).with_secret_access_key(config.secret_access_key.reveal());
    }
    let options = ClientOptions::new()
        .with_timeout(timeout)
        .with_connect_timeout(CONNECT.min(timeout))
        // Whoever names an http:// endpoint means it: one on this machine or in its network.
        .with_allow_http(true);
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: timeout };
    let built = builder.with_client_options(options).with_retry(retry).build();
    built.map_err(|e| format!("the S3 client cannot be built ({e}); check [s3] and AWS_* in the environment"))
}
