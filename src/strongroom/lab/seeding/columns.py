"""The columns that are copied, by table, in the order in which their rows are packed."""

COLUMNS = {
    "orders.orders": (
        "id code customer_id customer_name phone address note status total_amount payment_method "
        "payment_status payment_id version expires_at created_at"
    ),
    "orders.lines": "order_id product_id quantity unit_price",
    "orders.history": "order_id version status at by_whom reason",
    "orders.codes": "number order_id",
    "orders.products": "id sku name price active low_stock_at supplies created_at",
    "orders.customers": "id phone name address created_by created_at",
    "orders.order_days": "day status orders pieces amount",
    "orders.product_days": "day product_id orders pieces amount",
    "orders.customer_days": "day customer_id orders amount",
    "orders.rolled_days": "day rolled_at",
    "payments.payments": (
        "id payee order_id user_id method provider amount expires_at status provider_ref failure "
        "captured created_at settled_at"
    ),
    "payments.refunds": "id payment_id amount reason status provider_ref created_at done_at",
    "payments.sandbox_charges": (
        "payment_id amount plan state captured step expires_at refund_id refunded created_at"
    ),
    "ledger.accounts": "id owner_id purpose unit floor balance seq created_at",
    "ledger.transfers": "id key unit reference created_by created_at",
    "ledger.entries": "account_id seq transfer_id amount balance_after type",
    "events.log": "key seq id type payload created_at",
}


def columns_of(table: str) -> list[str]:
    return COLUMNS[table].split()
