//! Credentials for services of AWS other than S3: from AWS_* in the environment, a web identity, a container or the
//! machine's role, as S3's client finds and renews them.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use object_store::aws::{AmazonS3Builder, AwsCredentialProvider};

/// A source of credentials. Nothing is asked yet.
///
/// # Errors
/// What is wrong with the environment, in a sentence.
pub fn credentials(region: &str) -> Result<SharedCredentialsProvider, String> {
    // A client for a bucket that is never asked for: its credentials are what is wanted.
    let found = AmazonS3Builder::from_env().with_region(region).with_bucket_name("none").build();
    let found = found.map_err(|e| format!("no credentials for AWS ({e}); check AWS_* in the environment"))?;
    Ok(SharedCredentialsProvider::new(Found(found.credentials().clone())))
}

#[derive(Debug)]
struct Found(AwsCredentialProvider);

impl ProvideCredentials for Found {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let found = self.0.get_credential().await.map_err(CredentialsError::not_loaded)?;
            // It is asked before each request, and keeps them as long as they are good.
            Ok(Credentials::new(&found.key_id, &found.secret_key, found.token.clone(), None, "tidemill"))
        })
    }
}
