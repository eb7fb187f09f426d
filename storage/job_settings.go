package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// sameSettings returns a [*MismatchError] that names the first field in which
// two JSON objects differ, such as "mine.Seed".
func sameSettings(path string, have, want []byte) error {
	h, err := decodeJSON(have)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrCorrupt, err)
	}
	w, err := decodeJSON(want)
	if err != nil {
		return err
	}
	if field, have, want := difference("", h, w); field != "" {
		return &MismatchError{File: path, Field: field, Have: have, Want: want}
	}
	return nil
}

func decodeJSON(text []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // seeds are uint64
	err = dec.Decode(&v)
	return v, err
}

// difference is the first field of two decoded JSON values that differs, and
// the values it has; "" when there is none.
func difference(field string, have, want any) (string, string, string) {
	h, isObject := have.(map[string]any)
	w, both := want.(map[string]any)
	if isObject && both {
		all := maps.Clone(h)
		maps.Copy(all, w)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			inner := name
			if field != "" {
				inner = field + "." + name
			}
			if f, a, b := difference(inner, h[name], w[name]); f != "" {
				return f, a, b
			}
		}
		return "", "", ""
	}
	a, b := encodeJSON(have), encodeJSON(want)
	if a == b {
		return "", "", ""
	}
	if field == "" {
		field = "settings"
	}
	return field, a, b
}

func encodeJSON(v any) string {
	if v == nil {
		return "not set"
	}
	text, _ := json.Marshal(v) // decoded from JSON: cannot fail
	return string(text)
}
