"""Words of a Vietnamese shop: what it sells, who buys, where they live."""

from __future__ import annotations

import numpy as np

FAMILY = [
    "Nguyễn",
    "Nguyễn",
    "Nguyễn",
    "Nguyễn",
    "Nguyễn",
    "Nguyễn",
    "Trần",
    "Trần",
    "Lê",
    "Lê",
    "Phạm",
    "Phạm",
    "Huỳnh",
    "Hoàng",
    "Phan",
    "Vũ",
    "Võ",
    "Đặng",
    "Bùi",
    "Đỗ",
    "Hồ",
    "Ngô",
    "Dương",
    "Lý",
    "Đinh",
    "Trịnh",
    "Mai",
    "Tạ",
    "Lương",
    "Cao",
]
MEN = [
    "Văn",
    "Hữu",
    "Đức",
    "Minh",
    "Quang",
    "Quốc",
    "Thanh",
    "Công",
    "Xuân",
    "Hoàng",
    "Gia",
    "Anh",
    "Tuấn",
    "Ngọc",
    "Trọng",
]
WOMEN = [
    "Thị",
    "Thị",
    "Thị",
    "Ngọc",
    "Thu",
    "Thanh",
    "Minh",
    "Kim",
    "Phương",
    "Hồng",
    "Bích",
    "Diễm",
    "Mỹ",
    "Quỳnh",
    "Bảo",
]
HIS = [
    "Hùng",
    "Dũng",
    "Nam",
    "Long",
    "Tuấn",
    "Minh",
    "Khoa",
    "Phúc",
    "Đạt",
    "Bình",
    "Thắng",
    "Hải",
    "Sơn",
    "Tùng",
    "Kiên",
    "Thịnh",
    "Trung",
    "Hiếu",
    "Nghĩa",
    "Khánh",
    "Việt",
    "Quân",
    "Lộc",
    "Tài",
    "Phong",
    "Vinh",
    "Đăng",
    "Huy",
    "Cường",
    "Thành",
]
HER = [
    "Lan",
    "Hương",
    "Hà",
    "Trang",
    "Linh",
    "Ngân",
    "Thảo",
    "Mai",
    "Yến",
    "Nhung",
    "Hạnh",
    "Thủy",
    "Ánh",
    "Dung",
    "Vân",
    "Oanh",
    "Châu",
    "Trâm",
    "Tuyết",
    "Phượng",
    "Loan",
    "My",
    "Nhi",
    "Giang",
    "Hiền",
    "Quyên",
    "Thư",
    "Uyên",
    "Huệ",
    "Đào",
]

STREETS = [
    "Nguyễn Trãi",
    "Lê Lợi",
    "Trần Hưng Đạo",
    "Hai Bà Trưng",
    "Lý Thường Kiệt",
    "Nguyễn Huệ",
    "Điện Biên Phủ",
    "Cách Mạng Tháng Tám",
    "Võ Văn Tần",
    "Phan Xích Long",
    "Hoàng Văn Thụ",
    "Nguyễn Đình Chiểu",
    "Quang Trung",
    "Phạm Văn Đồng",
    "Lê Văn Sỹ",
    "Bà Triệu",
    "Nguyễn Văn Cừ",
    "Tô Hiến Thành",
    "Xô Viết Nghệ Tĩnh",
    "Trường Chinh",
    "Âu Cơ",
    "Lạc Long Quân",
    "Nguyễn Thị Minh Khai",
    "Ngô Quyền",
    "Hùng Vương",
]
CITIES: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (
        36,
        "TP. Hồ Chí Minh",
        (
            *(f"Q. {n}" for n in (1, 3, 4, 5, 6, 7, 8, 10, 11, 12)),
            *("Q. Bình Thạnh", "Q. Gò Vấp", "Q. Tân Bình", "Q. Phú Nhuận", "TP. Thủ Đức"),
        ),
    ),
    (
        27,
        "Hà Nội",
        (
            *("Q. Ba Đình", "Q. Hoàn Kiếm", "Q. Cầu Giấy", "Q. Đống Đa", "Q. Hà Đông"),
            *("Q. Thanh Xuân", "Q. Long Biên", "Q. Hoàng Mai"),
        ),
    ),
    (8, "Đà Nẵng", ("Q. Hải Châu", "Q. Thanh Khê", "Q. Sơn Trà", "Q. Liên Chiểu")),
    (6, "Cần Thơ", ("Q. Ninh Kiều", "Q. Bình Thủy", "Q. Cái Răng")),
    (6, "Hải Phòng", ("Q. Lê Chân", "Q. Ngô Quyền", "Q. Hồng Bàng")),
    (5, "Bình Dương", ("TP. Thủ Dầu Một", "TP. Dĩ An", "TP. Thuận An")),
    (4, "Đồng Nai", ("TP. Biên Hòa", "TP. Long Khánh")),
    (3, "Khánh Hòa", ("TP. Nha Trang", "TP. Cam Ranh")),
    (3, "Thừa Thiên Huế", ("TP. Huế", "TX. Hương Thủy")),
    (2, "Lâm Đồng", ("TP. Đà Lạt", "TP. Bảo Lộc")),
)
"""Weight, name, districts."""

NOTES = (
    "Giao giờ hành chính",
    "Gọi trước khi giao",
    "Để hàng ở bảo vệ",
    "Giao sau 18h",
    "Gói quà giúp mình",
    "Cho xem hàng trước khi nhận",
    "Giao nhanh giúp em ạ",
)

MOBILE = [
    "32",
    "33",
    "34",
    "35",
    "36",
    "37",
    "38",
    "39",
    "52",
    "56",
    "58",
    "59",
    "70",
    "76",
    "77",
    "78",
    "79",
    "81",
    "82",
    "83",
    "84",
    "85",
    "86",
    "88",
    "89",
    "90",
    "91",
    "92",
    "93",
    "94",
    "96",
    "97",
    "98",
]
"""What numbers of Vietnamese mobiles begin with, after +84."""

WARES: tuple[tuple[str, int, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "AO",
        150,
        ("Áo thun cotton", "Áo sơ mi lụa", "Áo khoác gió", "Áo polo", "Áo dài cách tân"),
        ("trắng", "đen", "xanh than", "hồng phấn", "be", "đỏ đô"),
    ),
    (
        "QU",
        220,
        ("Quần jean ống rộng", "Quần tây âu", "Quần short kaki", "Quần jogger"),
        ("đen", "xanh đậm", "xám", "nâu", "trắng kem"),
    ),
    (
        "GI",
        390,
        ("Giày thể thao", "Giày cao gót", "Dép quai ngang", "Giày lười da"),
        ("size 36", "size 38", "size 40", "size 42", "size 43"),
    ),
    (
        "MP",
        180,
        ("Son lì", "Kem chống nắng", "Nước tẩy trang", "Mặt nạ trà xanh", "Sữa rửa mặt"),
        ("cam đất", "đỏ gạch", "50 ml", "100 ml", "da dầu", "da nhạy cảm"),
    ),
    (
        "GD",
        320,
        ("Nồi chiên không dầu", "Bình giữ nhiệt", "Đèn bàn học", "Chảo chống dính", "Bộ dao bếp"),
        ("500 ml", "loại lớn", "loại nhỏ", "màu bạc", "inox 304"),
    ),
    (
        "DT",
        450,
        ("Tai nghe không dây", "Sạc dự phòng", "Cáp sạc nhanh", "Loa bluetooth", "Ốp lưng"),
        ("10.000 mAh", "20.000 mAh", "màu đen", "màu trắng", "Type-C", "chống sốc"),
    ),
    (
        "TP",
        90,
        ("Cà phê rang xay", "Trà ô long", "Hạt điều rang muối", "Mật ong rừng", "Bánh đậu xanh"),
        ("250 g", "500 g", "1 kg", "hộp quà", "gói dùng thử"),
    ),
    (
        "SA",
        110,
        ("Sổ tay bìa da", "Bút máy", "Truyện tranh", "Sách kỹ năng sống", "Hộp bút vải"),
        ("bìa cứng", "tập 1", "tập 2", "bản đặc biệt", "màu xanh"),
    ),
    (
        "ME",
        260,
        ("Bỉm quần", "Sữa bột", "Xe đẩy gấp gọn", "Bộ quần áo sơ sinh", "Đồ chơi gỗ"),
        ("size M", "size L", "900 g", "0–6 tháng", "6–12 tháng"),
    ),
)
"""Beginning of the SKU, the middling price in thousands of dong, what there is, in which kinds."""


def names(count: int, noise: np.random.Generator) -> list[str]:
    """Full names, as frequent as families are."""
    made = []
    for family, woman, middle, given in noise.integers(0, 900, (count, 4)):
        seconds, firsts = (WOMEN, HER) if woman % 2 else (MEN, HIS)
        made.append(
            f"{FAMILY[family % len(FAMILY)]} {seconds[middle % len(seconds)]} "
            f"{firsts[given % len(firsts)]}"
        )
    return made


def places(count: int, noise: np.random.Generator) -> list[str]:
    """Streets with ward, district and city, after a house number; most are in the big cities."""
    weights = np.array([city[0] for city in CITIES], float)
    chosen = noise.choice(len(CITIES), count, p=weights / weights.sum())
    made = []
    for city, street, ward, district in zip(
        chosen, *noise.integers(0, 1000, (3, count)), strict=True
    ):
        _, name, districts = CITIES[city]
        made.append(
            f" {STREETS[street % len(STREETS)]}, P. {ward % 20 + 1}, "
            f"{districts[district % len(districts)]}, {name}"
        )
    return made


def houses(count: int, noise: np.random.Generator) -> list[str]:
    """House numbers, some of them in a lane."""
    lanes = noise.integers(1, 90, count)
    return [
        f"{number}/{lane}" if lane % 4 == 0 else f"{number}"
        for number, lane in zip(noise.integers(1, 600, count), lanes, strict=True)
    ]
