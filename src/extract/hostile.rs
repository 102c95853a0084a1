//! Documents made to hurt, through the whole of [`super::extract`] on a pool's thread. The bounds on time are many
//! times what an idle machine needs, and far below what one quadratic step would cost.

use std::time::{Duration, Instant};

use super::html::{ExtractError, Extracted};
use super::limits::Limits;
use super::pool::Pool;

/// None of these needs more: nothing recurses over the page.
const STACK: usize = 256 << 10;

async fn survive(html: String) -> Extracted {
    let started = Instant::now();
    let pool = match Pool::new(1, STACK) {
        Ok(pool) => pool,
        Err(error) => panic!("{error}"),
    };
    let job = move || super::extract(&html, Some("https://a.example/"), &Limits::default());
    let page = match pool.run(Duration::from_secs(60), job).await {
        Ok(Ok(page)) => page,
        Ok(Err(ExtractError::Empty(page))) => *page,
        Err(error) => panic!("{error}"),
    };
    assert!(started.elapsed() < Duration::from_secs(45), "{:?}", started.elapsed());
    page
}

#[tokio::test]
async fn nested_elements() {
    let page = survive("<div>".repeat(200_000) + "deep words" + &"</div>".repeat(200_000)).await;
    assert!(page.text.contains("deep words"));
    let page = survive("<span><div></span>".repeat(30_000) + "deep words").await;
    assert!(page.text.contains("deep words"));
    survive("<table><tr><td>".repeat(20_000) + "x").await;
    survive("<svg><foreignObject>".repeat(20_000) + "x").await;
    survive("<ul><li>".repeat(20_000) + "x").await;
    survive("<blockquote><q>x".repeat(30_000)).await;
}

#[tokio::test]
async fn attributes_of_one_tag() {
    let many: String = (0..100_000).map(|i| format!(" a{i}='{i}'")).collect();
    let page = survive(format!("<p{many}>some words</p>")).await;
    assert!(page.text.contains("some words"));
    survive(format!("<a href='{}'>x</a>", "x/".repeat(1_000_000))).await;
    survive(format!("<p class='{}'>x", "date author ".repeat(200_000))).await;
}

#[tokio::test]
async fn a_hundred_megabytes_of_text() {
    let limit = Limits::default().max_bytes;
    let page = survive("plain words without end ".repeat(100 << 20 >> 4).split_off(50 << 20)).await;
    assert!(page.text.len() > limit / 2 && page.text.len() <= limit);
}

#[tokio::test]
async fn entity_floods() {
    survive("&amp;&#x41;&notanentity;".repeat(60_000)).await;
    survive("&".repeat(200_000)).await;
    survive(format!("<title>{}</title><a href='{0}'>x</a>", "&lt;&#".repeat(100_000))).await;
}

#[tokio::test]
async fn unclosed_and_endless_markup() {
    survive("<p><a href=x".repeat(300_000)).await;
    survive("<a href=/x>y".repeat(60_000)).await;
    survive("<".repeat(300_000)).await;
    survive("</".repeat(1_500_000)).await;
    survive("<!--".repeat(700_000)).await;
    survive("<script>".repeat(400_000)).await;
    survive("</p>".repeat(700_000)).await;
    survive("x<br>".repeat(150_000)).await;
    survive("<a ".to_owned() + &"='".repeat(1_000_000)).await;
}

#[tokio::test]
async fn formatting_that_multiplies() {
    let fonts: String = (0..50_000).map(|i| format!("<font a={i}>")).collect();
    let page = survive(fonts + &"<p>words".repeat(50_000)).await;
    assert!(page.text.contains("words"));
    survive("<table>x<b>y".repeat(100_000)).await;
    survive("<b><p></b>x".repeat(100_000)).await;
    survive("<a><p>x".repeat(40_000)).await;
}

#[tokio::test]
async fn nul_and_broken_text() {
    let page = survive("\0".repeat(5_000_000) + "<p>some words").await;
    assert!(page.text.contains("some words"));
    let noise: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    survive(String::from_utf8_lossy(&noise).into_owned()).await;
}

#[tokio::test]
async fn more_blocks_than_any_page_has() {
    let page = survive("<p>some words here</p>".repeat(200_000) + "<p>the end").await;
    assert!(page.text.contains("some words here"));
    survive("<ol>".to_owned() + &"<li>some words of an item".repeat(200_000)).await;
    survive("<table><tr>".to_owned() + &"<td>some words<td><p>more words".repeat(100_000)).await;
    survive("<div class='comment post article-body'>some words here".repeat(100_000)).await;
    survive("x<br><br>".repeat(300_000)).await;
    survive("<a href=/x>some</a><em>more</em>".repeat(150_000)).await;
}

#[tokio::test]
async fn data_blocks() {
    let article = "some \\\" words ".repeat(100_000);
    survive(format!("<script type=application/ld+json>{{\"articleBody\":\"{article}\"}}</script><p>x")).await;
    survive("<script type=application/ld+json>\"articleBody\":\"".repeat(30_000)).await;
    survive(format!("<script type=application/ld+json>{}</script>x", "[".repeat(1_000_000))).await;
    survive("<script type=application/ld+json>{\"@type\":\"Article\",\"headline\":\"x\"}</script>".repeat(20_000))
        .await;
    survive("<meta property=og:title content=x>".repeat(60_000)).await;
    survive("<h1>x</h1>".repeat(60_000)).await;
    survive("<a href='//b.example/".to_owned() + &"'><a href='//c.example/x".repeat(200_000)).await;
}
