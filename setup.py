"""Package metadata; also the file that ``--setup_file`` ships to Beam workers.

The folder ``headrace`` holds links to the five packages beside it, so that all of them
are installed under one name.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

KAFKA = [
    "confluent-kafka>=2.6", "crc32c>=2.4", "fastavro>=1.9", "kafka-python==3.0.12",
    "protobuf>=6.31",
]  # fmt: skip

setup(
    name="headrace",
    version="0.1.0",
    description="Streaming sample joining and online learning with exact, replayable results",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["headrace", "headrace.*"]),
    package_data={"headrace": ["py.typed"], "headrace.monitoring.report": ["templates/*.html"]},
    install_requires=[
        "apache-beam==2.77.*",
        "isal>=1.7",
        "jinja2>=3.1",
        "msgspec>=0.19",
        "narwhals>=2",
        "numba>=0.61",
        "numpy>=2.0,<2.5",
        "prometheus-client>=0.21",
        "pyarrow>=18,<26",
        "pydantic>=2.11",
        "rich>=13",
        "river>=0.22",
        "scipy>=1.12",
        "vl-convert-python>=1.7",
    ],
    extras_require={
        "kafka": KAFKA,
        "onnx": ["onnx>=1.17"],
        "sklearn": ["scikit-learn>=1.6"],
        "test": [
            *KAFKA,
            "check-jsonschema>=0.30",
            "cramjam>=2.8",
            "duckdb>=1.1",
            "grafana-foundation-sdk==0.0.21",  # a later epoch has older versions
            "hypothesis>=6.100",
            "lz4>=4.3",
            "mmh3>=5",
            "moto[server]>=5",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "pandas>=2.2",
            "polars>=1",
            "promql-parser>=0.12",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "python-snappy>=0.7",
            "PyYAML>=6",
            "scikit-learn>=1.6",
            "vowpalwabbit>=9.11,<9.12",
            "zstandard>=0.22",
        ],
        "bench": ["polars>=1", "vowpalwabbit>=9.11,<9.12"],
        "check": ["mypy>=1.13", "ruff>=0.8"],
    },
    entry_points={"console_scripts": ["headrace=headrace.pipelines.app.cli:run"]},
)
