//! `docs/robustness.md` names tests: they are there.

use std::path::Path;

#[test]
fn every_test_that_the_page_names_exists() {
    let page = std::fs::read_to_string("../docs/robustness.md").expect("the page");
    let mut named = 0;
    for name in page.split('`').filter(|text| text.contains(".rs::")) {
        let (file, test) = name.split_once("::").expect("a file and a test");
        let inside = Path::new("tests").join(file);
        let path = if inside.exists() {
            inside
        } else {
            Path::new("..").join(file)
        };
        let code = std::fs::read_to_string(&path).expect(name);
        assert!(code.contains(&format!("fn {test}(")), "{name}");
        named += 1;
    }
    assert!(named > 100, "{named} tests are named");
}
