//! What an agent has to use up, and how it stands.

use crate::error::CliError;
use crate::out::{Out, Table};
use octant_api::agents::{BudgetInfo, BudgetRow};

pub(super) fn show(info: &BudgetInfo, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(info);
    }
    let mut table = Table::new(&["BUDGET", "GIVEN", "USED", "RESERVED", "BELOW", "LEFT"]);
    info.budgets.iter().filter(|row| counts(row)).for_each(|row| table.row(cells(row)));
    out.table(&table)
}

/// One budget in a line, for `octant self`.
pub(crate) fn line(row: &BudgetRow) -> Option<String> {
    let [budget, given, used, reserved, below, left] = cells(row);
    counts(row)
        .then(|| format!("{budget}: {left} left of {given}; {used} used, {reserved} reserved, {below} below"))
}

/// Whether there is anything to say of it.
fn counts(row: &BudgetRow) -> bool {
    row.given != Some(0) || row.used > 0 || row.below > 0
}

fn cells(row: &BudgetRow) -> [String; 6] {
    let amount = |units: u64| match row.budget.as_str() {
        // Millionths of a US dollar.
        "models.spend_usd" => format!("{}.{:06}", units / 1_000_000, units % 1_000_000),
        _ => units.to_string(),
    };
    let most = |units: Option<u64>| units.map_or_else(|| "no end".to_owned(), amount);
    let BudgetRow { budget, given, used, reserved, below, left } = row;
    [budget.clone(), most(*given), amount(*used), amount(*reserved), amount(*below), most(*left)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_shown_where_there_is_one() {
        let row = |budget: &str, given, used| BudgetRow {
            budget: budget.into(),
            given,
            used,
            reserved: 0,
            below: 0,
            left: given.map(|given: u64| given - used),
        };
        assert_eq!(line(&row("models.tokens", Some(0), 0)), None);
        let bytes = line(&row("network.bytes", Some(100), 30)).unwrap();
        assert_eq!(bytes, "network.bytes: 70 left of 100; 30 used, 0 reserved, 0 below");
        let open = line(&row("network.requests", None, 3)).unwrap();
        assert_eq!(open, "network.requests: no end left of no end; 3 used, 0 reserved, 0 below");
        assert!(line(&row("models.spend_usd", Some(2_500_000), 0)).unwrap().contains("2.500000 left"));
    }
}
