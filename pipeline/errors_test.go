package pipeline

import (
	"errors"
	"fmt"
	"testing"
)

func TestLocationString(t *testing.T) {
	for _, tt := range []struct {
		at   Location
		want string
	}{
		{Location{"train-003.parquet", 4, 1187, "image"}, `train-003.parquet: row group 4, row 1187, column "image"`},
		{Location{"a.parquet", 0, 0, ""}, "a.parquet: row group 0, row 0"},
		{Location{"a.parquet", 2, -1, "label"}, `a.parquet: row group 2, column "label"`},
		{Location{"a.parquet", -1, -1, "label"}, `a.parquet: column "label"`},
		{Location{"a.parquet", -1, -1, ""}, "a.parquet"},
	} {
		if got := tt.at.String(); got != tt.want {
			t.Errorf("%#v prints %s, want %s", tt.at, got, tt.want)
		}
	}
}

func TestRowError(t *testing.T) {
	var err error = &RowError{Location{"a.parquet", 1, 2, "image"}, fmt.Errorf("decode: %w", errAbsent)}
	if got, want := err.Error(), `a.parquet: row group 1, row 2, column "image": decode: not found here either`; got != want {
		t.Errorf("prints %s, want %s", got, want)
	}
	var at *RowError
	if err = fmt.Errorf("batch 3: %w", err); !errors.Is(err, errAbsent) || !errors.As(err, &at) || at.Row != 2 {
		t.Errorf("the cause and the place of %v cannot be reached", err)
	}
}

func TestPanicError(t *testing.T) {
	if err := (&PanicError{In: "map", Value: errAbsent, Batch: -1}); err.Error() != "map panicked: not found here either" || !errors.Is(err, errAbsent) {
		t.Errorf("prints %v", err)
	}
	if err := (&PanicError{In: "map", Value: 5}); errors.Unwrap(err) != nil {
		t.Errorf("unwraps to %v, want nothing", errors.Unwrap(err))
	}
}
