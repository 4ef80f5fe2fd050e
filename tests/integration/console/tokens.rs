//! The page of tokens.

use super::{ADMIN, scene};

#[actix_rt::test]
async fn a_double_click_revokes_no_token() {
    let Some(scene) = scene(1280).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.click("a[data-page=tokens]").await;
    page.type_into("#user-name", "bob").await;
    page.click("[aria-labelledby=new] button[type=submit]").await;
    page.shows("[aria-labelledby=tokens] tbody", "bob").await;
    let button = "document.querySelector(\"[aria-label$='evoke the token of bob']\")";
    let click = async |detail: u8| {
        page.js(&format!("{button}.dispatchEvent(new MouseEvent('click', {{ detail: {detail} }}))")).await;
    };
    let asks = format!("{button}.ariaLabel.startsWith('Really')");
    click(1).await;
    click(2).await;
    page.until(&asks).await;
    page.js(&format!("{button}.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Escape' }}))")).await;
    page.until(&format!("!({asks})")).await;
    click(1).await;
    click(1).await;
    page.shows("[aria-labelledby=tokens] tbody", "revoked").await;
    page.until("document.activeElement.id === 'tokens'").await;
    assert_eq!(page.text(".fresh").await, "", "a secret that has ended is shown no longer");
    scene.reports_no_errors(&[]).await;
}
