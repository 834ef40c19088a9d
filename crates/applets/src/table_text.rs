//! Tables for people.

/// Rows whose columns stand below each other; `raw` puts one space between cells instead.
pub(crate) fn aligned(rows: &[Vec<String>], raw: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| if raw { cell.replace(' ', "\\x20") } else { format!("{cell:<width$}") });
        format!("{}\n", cells.collect::<Vec<_>>().join(" ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["a", "bcd", "e"], ["fgh", "", "i j"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows, false), "a   bcd e\nfgh     i j\n");
        assert_eq!(aligned(&rows, true), "a bcd e\nfgh  i\\x20j\n");
    }
}
