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

#[tokio::test]
async fn structured_data_without_end() {
    let ld = "<script type=application/ld+json>";
    // Scripts that are never closed, strings and comments in them too.
    survive(format!("{ld}{{\"a\":[{}", "{\"b\":\"c ".repeat(100_000))).await;
    survive(format!("{ld}{}", "/*".repeat(500_000))).await;
    survive(format!("{ld}{{{}", "\"a\" ".repeat(200_000))).await;
    survive(format!("{ld}[{}", "\", \"".repeat(200_000))).await;
    survive(format!("{ld}{}</script>x", "{".repeat(1_000_000))).await;
    survive(format!("{ld}{}</script>x", "{\"@graph\":[".repeat(90_000))).await;
    survive(format!("{ld}{}</script>x", "&quot;[&quot;".repeat(80_000))).await;
    survive(format!("{ld}[{}", "\u{2028}\\ud83d\\".repeat(100_000))).await;
    let page = survive(format!("{ld}[{}1]</script><p>some words", "[],".repeat(300_000))).await;
    assert!(page.structured.into_text().is_none_or(|text| text.len() <= super::structured::MAX_TEXT));
}

#[tokio::test]
async fn properties_in_masses() {
    let page = survive("<div itemscope>".to_owned() + &"<i itemprop='a b c'>some words</i>".repeat(100_000)).await;
    let properties = page.structured.microdata[0]["properties"]["a"].as_array().map_or(0, Vec::len);
    assert!((1..=super::structured::items::MAX_PROPERTIES).contains(&properties));
    // Each holds the text of all that are in it.
    let page = survive(
        "<div itemscope>".to_owned() + &"<div itemscope itemprop=a>".repeat(100_000) + &"words ".repeat(10_000),
    )
    .await;
    assert!(page.structured.into_text().is_some());
    survive("<div itemprop=a>".repeat(200) + &"<b itemscope><i itemprop=a>w</i></b>".repeat(60_000)).await;
    survive("<div vocab=http://schema.org/ typeof=A property=b>x".repeat(60_000)).await;
    survive("<div vocab=v>".to_owned() + &"<i property='a b' prefix='a: b c: d'>x</i>".repeat(100_000)).await;
    let names: String = (0..100_000).map(|i| format!(" n{i}")).collect();
    survive(format!("<div itemscope itemtype='{names}' itemref='{names}'><i itemprop='{names}'>x")).await;
    survive(format!("<div vocab=v typeof='{names}' prefix='{names}'><i property='{names}'>x")).await;
}

#[tokio::test]
async fn references_in_circles() {
    let circle: String = (0..20_000)
        .map(|i| format!("<p id=a{i} itemscope itemprop=x itemref='a{} a{} a0'></p>", i + 1, i / 2))
        .collect();
    survive(format!("<div itemscope itemref='a0 a1 a2'></div>{circle}")).await;
    let wide = "<div itemscope itemref=all></div>".repeat(20_000);
    survive(format!("{wide}<div id=all>{}</div>", "<i itemprop=x>y</i>".repeat(50_000))).await;
    survive("<div id=a itemscope itemref=a itemprop=a>".repeat(20_000)).await;
}

#[tokio::test]
async fn tables_that_span_without_end() {
    let cell = "<td rowspan=65534 colspan=99999999999999999999>".to_owned() + &"x".repeat(1_000);
    let page =
        survive(format!("<table><tr>{}{}</table>", cell.repeat(1_000), "<tr><td rowspan=0>y".repeat(50_000))).await;
    let bytes: usize = page.tables.iter().flat_map(|table| table.rows.iter().flatten()).map(String::len).sum();
    assert!(bytes <= 200_000, "{bytes}");
    survive("<table><tr><td>a<td>b<tr><td>c<td>d</table>".repeat(25_000)).await;
    survive("<table><tr><td>".to_owned() + &"<td>x".repeat(200_000)).await;
    survive("<table>".to_owned() + &"<tr>".repeat(200_000)).await;
    survive("<table><tr><td><table><tr><td>x".repeat(5_000)).await;
    survive("<table><caption>".to_owned() + &"x ".repeat(3_000_000)).await;
}

#[tokio::test]
async fn links_and_metas_in_masses() {
    let page = survive("<a href=/x rel='".to_owned() + &"nofollow x ".repeat(300_000) + "'>x</a>").await;
    assert!(page.links[0].nofollow && page.links[0].rel == ["nofollow", "x"]);
    survive("<link rel=alternate hreflang=de href=/x>".repeat(60_000)).await;
    survive("<area href=/x alt=x>".repeat(60_000)).await;
    survive("<meta property=og:image content=x><meta property=og:image:width content=1>".repeat(30_000)).await;
    survive(format!("<meta name=robots content='{}'>", "a,".repeat(1_000_000))).await;
    survive(format!("<meta name=keywords content='{}'>", "&#44;a".repeat(500_000))).await;
    survive(format!("<a rel=license href='{}'>", "&#x2f;".repeat(500_000))).await;
}
