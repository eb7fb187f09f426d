package storage

import "github.com/apache/arrow/go/v17/parquet/compress"

const lz4Raw = compress.Compression(7)
