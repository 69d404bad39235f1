package sqlite

import (
	"reflect"
	"testing"

	"github.com/s3fence/s3fence/internal/object"
)

// Each attribute alone comes back, also those that were added last.
func TestEachAttributeIsKept(t *testing.T) {
	t.Parallel()
	full := reflect.ValueOf(object.Attributes{
		Headers: map[string]string{"Expires": "0"}, Meta: map[string]string{"a": "b"}, Checksums: map[string]string{"SHA1": "x"}, ChecksumType: "COMPOSITE",
		Tags: []object.Tag{{Key: "k"}}, Parts: 2, Algorithm: "SHA1", Class: "GLACIER",
	})
	for i := range full.NumField() {
		name := full.Type().Field(i).Name
		if full.Field(i).IsZero() {
			t.Fatalf("this test gives %s no value", name)
		}
		var a, got object.Attributes
		reflect.ValueOf(&a).Elem().Field(i).Set(full.Field(i))
		text, err := attributesJSON(&a)
		if err != nil {
			t.Fatal(err)
		}
		if err := parseAttributes([]byte(text), &got); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: %v came back as %v (%v)", name, a, got, err)
		}
	}
}
