"""Products, stock, customers, orders."""

from __future__ import annotations

from strongroom.apps.orders.rows import (
    CustomerSeen,
    OrderPlaced,
    ProductSeen,
    SalesOrder,
    StockSeen,
)
from strongroom.apps.orders.steps import Step
from strongroom.doors.http.orders_bodies import (
    CustomerBody,
    CustomerChange,
    OrderBody,
    PayBody,
    ProductBody,
    ProductChange,
    StepReason,
    StockBody,
    create_customer,
    create_product,
    edit_customer,
    edit_product,
    move_stock,
    pay_order,
    place_order,
    step,
)
from strongroom.doors.http.orders_reads import ORDERS_READS
from strongroom.doors.http.orders_reports import ORDERS_REPORTS
from strongroom.doors.http.routing import Role, Route, Routes

STEPS: dict[Step, tuple[Role, str]] = {
    "confirm": ("operator", "Confirms an order: PENDING → CONFIRMED. It lapses no more."),
    "ship": ("operator", "Ships an order: CONFIRMED → SHIPPED, its pieces held → sold."),
    "deliver": ("operator", "SHIPPED → DELIVERED; cash on delivery has been paid."),
    "return": (
        "operator",
        "SHIPPED or DELIVERED → RETURNED: pieces sold → free, what was paid goes back.",
    ),
    "cancel": (
        "user",
        "PENDING or CONFIRMED → CANCELLED: pieces held → free, what was paid goes back.",
    ),
}

WRITES: Routes = [
    Route(
        "POST",
        "/api/products",
        "operator",
        201,
        "Adds a product, with nothing in stock.",
        ProductBody,
        ProductSeen,
        command=create_product,
        problems=("sku_taken",),
    ),
    Route(
        "PATCH",
        "/api/products/{id}",
        "operator",
        200,
        "Changes what is given; orders that are placed keep their prices.",
        ProductChange,
        ProductSeen,
        command=edit_product,
        problems=("sku_taken",),
    ),
    Route(
        "POST",
        "/api/products/{id}/stock",
        "operator",
        201,
        "Receives pieces, or corrects how many there are, with a reason.",
        StockBody,
        StockSeen,
        command=move_stock,
        problems=("out_of_stock",),
    ),
    Route(
        "POST",
        "/api/customers",
        "operator",
        201,
        "Adds a customer before there is an order; one for each phone number.",
        CustomerBody,
        CustomerSeen,
        command=create_customer,
        problems=("phone_taken",),
    ),
    Route(
        "PATCH",
        "/api/customers/{id}",
        "operator",
        200,
        "Changes what is given of a customer; orders keep what they said.",
        CustomerChange,
        CustomerSeen,
        command=edit_customer,
        keyless=True,
    ),
    Route(
        "POST",
        "/api/orders",
        "user",
        201,
        "Places an order: stock is held for all of its lines, or for none. It lapses unless it is "
        "paid or confirmed in time.",
        OrderBody,
        OrderPlaced,
        command=place_order,
        problems=("out_of_stock", "not_for_sale", "no_provider"),
        limited="orders",
    ),
    Route(
        "POST",
        "/api/orders/{id}/pay",
        "user",
        200,
        "Asks for an order's payment: after one that failed, or another way than was chosen.",
        PayBody,
        OrderPlaced,
        command=pay_order,
        problems=("wrong_state", "no_provider"),
        limited="orders",
    ),
    *(
        Route(
            "POST",
            f"/api/orders/{{id}}/{name}",
            role,
            200,
            what,
            StepReason,
            SalesOrder,
            command=step(name),
            problems=("wrong_state", "not_paid") if name == "confirm" else ("wrong_state",),
            steps=True,
        )
        for name, (role, what) in STEPS.items()
    ),
]

ORDERS: Routes = [*ORDERS_READS, *ORDERS_REPORTS, *WRITES]
