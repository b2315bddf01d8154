//! The page of `inspect --html`, read as text and opened in a browser.

mod common;

use common::{fails_with, folder, json, run, run_in};
use serde_json::Value;
use std::process::Command;

/// A network with pointwise, depthwise and spatial layers.
fn model() {
    static MADE: std::sync::Once = std::sync::Once::new();
    MADE.call_once(|| {
        let spec = "zoo mobilenet-v1 --width 0.25 --hw 64 --conv1x1 4x4:0.75 --dwconv3x3 3:9 -o page.onnx";
        assert!(run_in(folder(), spec).status.success());
    });
}

/// The data in a page.
fn data(file: &str) -> Value {
    let page = std::fs::read_to_string(folder().join(file)).unwrap();
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside} in {file}");
    }
    let data = page.split_once("type=\"application/json\">").unwrap().1.split_once("</script>").unwrap().0;
    serde_json::from_str(data).unwrap()
}

#[test]
fn the_page_holds_the_report_and_its_maps() {
    model();
    let report = json("page.onnx inspect --html page.html --json");
    let data = data("page.html");
    assert_eq!(data["report"], report);
    let (layers, maps) = (report["layers"].as_array().unwrap(), data["maps"].as_array().unwrap());
    assert_eq!(layers.len(), maps.len());
    for (layer, map) in layers.iter().zip(maps) {
        let size = |at: usize| map["size"][at].as_u64().unwrap();
        assert_eq!(map["cells"].as_str().unwrap().len() as u64, size(0) * size(1), "{layer}");
        assert_eq!(map["matrix"][0], layer["oc"], "{layer}");
        // cells of equal size that are single weights or whole blocks are all or nothing: their share is the
        // density
        if layer["structure"] == "4x4" || layer["structure"] == "3:9" {
            let cells = map["cells"].as_str().unwrap();
            assert!(cells.chars().all(|digit| digit == 'A' || digit == '/'), "{layer}: {cells}");
            let share = cells.matches('/').count() as f64 / cells.len() as f64;
            let density = layer["density"].as_f64().unwrap();
            assert!((share - density).abs() < 1e-9, "{layer}: {share}");
        }
    }
    assert!(layers.iter().filter(|layer| layer["structure"] == "3:9").count() == 13, "{report}");
    assert!(run("page.onnx inspect --html text.html").contains("layers run sparse"));
}

#[test]
fn a_page_that_cannot_be_written_is_named() {
    model();
    fails_with("page.onnx inspect --html missing/page.html", 1, &["missing/page.html"]);
    fails_with("page.onnx inspect --html . --json", 1, &["cannot write", "folder"]);
}

/// The document of a page once its scripts have run; none without a browser.
fn dom(file: &str) -> Option<String> {
    let profile = folder().join(format!("browser-{file}"));
    let command = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", folder().join(file).display()))
        .output();
    let output = match command {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("NOT RUN: {file} in a browser: apt-get install chromium");
            return None;
        }
        Err(e) => panic!("chromium: {e}"),
    };
    // it leaves a profile behind, and nothing depends on whether that goes
    let _ = std::fs::remove_dir_all(profile);
    let dom = String::from_utf8(output.stdout).unwrap();
    if !output.status.success() || dom.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        println!("NOT RUN: {file} in a browser, which does not start: {}: {said}", output.status);
        return None;
    }
    Some(dom)
}

/// The layers of the rows of the table, from top to bottom.
fn rows(dom: &str) -> Vec<usize> {
    dom.split("<tr data-layer=\"")
        .skip(1)
        .map(|row| row.split('"').next().unwrap().parse().unwrap())
        .collect()
}

/// The number that a text begins with.
fn number(text: &str) -> f64 {
    text.split('<').next().unwrap().trim().parse().unwrap()
}

#[test]
fn a_browser_shows_every_layer() {
    model();
    run("r.onnx --sparse always inspect --measure --html measured.html");
    run("page.onnx inspect --html shown.html");
    for file in ["measured.html", "shown.html"] {
        let Some(dom) = dom(file) else { return };
        let data = data(file);
        let layers = data["report"]["layers"].as_array().unwrap().len();
        assert_eq!(rows(&dom), (0..layers).collect::<Vec<_>>(), "{file}");
        let all = data["report"]["layers"].as_array().unwrap().iter().zip(data["maps"].as_array().unwrap());
        let drawn: Vec<&Value> = all
            .filter(|(layer, map)| !map.is_null() && layer["zeros"] != "dense")
            .map(|(_, map)| map)
            .collect();
        assert!(!drawn.is_empty() && drawn.len() < layers, "{file}: {} of {layers}", drawn.len());
        assert_eq!(dom.matches("<figure class=\"map\"").count(), drawn.len(), "{file}");
        assert!(dom.contains("Not drawn, dense: "), "{file}");
        assert_eq!(dom.matches("<div class=\"bar\"").count(), layers, "{file}");
        // set when a map is drawn: the number of cells with a nonzero weight
        for map in drawn {
            let nonzero = map["cells"].as_str().unwrap().chars().filter(|digit| *digit != 'A').count();
            assert!(dom.contains(&format!("data-nonzero=\"{nonzero}\"")), "{file}: {map}");
        }
        // the longest bars first, those that are folded behind them
        let shown: Vec<f64> = dom.split("class=\"runs\"></i>").skip(1).map(number).collect();
        assert!(shown.len() > 1 && shown.is_sorted_by(|a, b| a >= b), "{file}: {shown:?}");
        assert_eq!(dom.contains("more layers, "), layers > 20, "{file}");
        let measured = file == "measured.html";
        assert_eq!(dom.contains("on stock tract, measured"), measured, "{file}");
        assert_eq!(dom.contains("on stock tract, predicted"), !measured, "{file}");
    }
}

#[test]
fn a_column_head_sorts() {
    model();
    run("page.onnx inspect --html sorted.html");
    let file = folder().join("sorted.html");
    let page = std::fs::read_to_string(&file).unwrap();
    let click = "<script>document.querySelectorAll('th button')[7].click()</script></body>";
    std::fs::write(&file, page.replace("</body>", click)).unwrap();
    let Some(dom) = dom("sorted.html") else { return };
    let data = data("sorted.html");
    let times = rows(&dom).into_iter().map(|row| data["report"]["layers"][row]["stock_ms"].as_f64().unwrap());
    let times: Vec<f64> = times.collect();
    assert!(times.len() == 28 && times.is_sorted() && times[0] < times[27], "{times:?}");
    assert!(dom.contains("aria-sort=\"ascending\""));
}
