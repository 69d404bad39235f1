package upstream

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func BenchmarkPut4KiB(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
	}))
	b.Cleanup(srv.Close)
	c := newClient(b, srv.URL)
	content := make([]byte, 4<<10)
	opts := PutOptions{ContentMD5: "1B2M2Y8AsgTpgAmY7PhCfg==", Header: http.Header{"X-Amz-Meta-A": {"b"}, "Content-Type": {"application/octet-stream"}}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.PutObject(context.Background(), "data", ".s3fence/x/0123456789abcdef", bytes.NewReader(content), 4<<10, opts); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	c := newClient(b, "http://127.0.0.1:1")
	for name, r := range map[string]*Request{
		"query": {Method: "PUT", Bucket: "data", Key: ".s3fence/x/0123456789abcdef", Mutation: true,
			Header: http.Header{"Content-Md5": {"1B2M2Y8AsgTpgAmY7PhCfg=="}, "X-Amz-Meta-A": {"b"}, "Content-Type": {"application/octet-stream"}}},
		"header": {Method: "GET", Bucket: "data", Key: ".s3fence/x/0123456789abcdef", Header: http.Header{"Range": {"bytes=0-9"}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.build(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
