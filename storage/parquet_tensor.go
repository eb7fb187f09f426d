package storage

import "encoding/base64"

// Parquet has no extension types. Writers keep the Arrow schema, with the
// extension types in it, as a base64 IPC message under the key "ARROW:schema".
// Of all that is in it, only the tensors are looked up.

const (
	arrowSchemaKey = "ARROW:schema"
	maxArrowSchema = 1 << 20 // bytes of base64; larger ones are passed over
)

// tensors finds the columns of type arrow.fixed_shape_tensor and their
// metadata, by column name. A blob that makes no sense has none: the columns
// can be read without it.
func tensors(blob string) map[string]string {
	if blob == "" || len(blob) > maxArrowSchema {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return nil
	}
	found := make(map[string]string)
	err = guarded(func() error {
		meta, _, err := nextArrowMessage(b)
		if err != nil {
			return err
		}
		m, err := readArrowMessage(meta)
		if err != nil || m.kind != arrowSchemaMessage {
			return err
		}
		for field := range m.header.tables(1) {
			if meta := keyValues(field, 6); meta["ARROW:extension:name"] == tensorExtension {
				found[field.str(0)] = meta["ARROW:extension:metadata"]
			}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return found
}
