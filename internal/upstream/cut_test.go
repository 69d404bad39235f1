package upstream

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/s3fence/s3fence/internal/storetest"
)

// A body that turns out false, or whose sender vanishes, never becomes an object,
// without any digest to tell it by. versitygw commits what it has when a
// connection is closed in the middle.
func TestCutBodyIsNoObject(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func(testing.TB) *storetest.Server{"minio": storetest.MinIO, "versitygw": storetest.Versitygw} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := store(t)
			bucket := srv.Bucket(t)
			c, err := New(Config{Name: name, Endpoint: srv.Endpoint, AccessKey: srv.AccessKey, SecretKey: srv.SecretKey, PathStyle: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			var keys []string
			cut := errors.New("the sender is gone")
			for _, size := range []int{100, 20 << 10, 300_000, 3 << 20} {
				for where, sent := range map[string]int{"start": 0, "middle": size / 2, "end": size} {
					key := strconv.Itoa(size) + "-" + where
					if _, err := c.PutObject(t.Context(), bucket, key, strings.NewReader("old"), 3, PutOptions{}); err != nil {
						t.Fatal(err)
					}
					body := io.MultiReader(bytes.NewReader(make([]byte, sent)), iotest.ErrReader(cut))
					if _, err = c.PutObject(t.Context(), bucket, key, body, int64(size), PutOptions{}); !errors.Is(err, cut) {
						t.Fatalf("%s: %v, want %v", key, err, cut)
					}
					keys = append(keys, key)
				}
			}
			// The store may still be about to commit what it has of the last.
			time.Sleep(300 * time.Millisecond)
			for _, key := range keys {
				o, err := c.GetObject(t.Context(), bucket, key, "", nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(o.Body)
				o.Body.Close()
				if err != nil || string(got) != "old" {
					t.Errorf("%s: the store has %d bytes (%v), want those from before", key, len(got), err)
				}
			}
		})
	}
}

// How a body that is given up ends, as a store sees it: by a reset, over TLS
// without a good-bye before.
func TestCutBodyEndsInAReset(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run("tls "+strconv.FormatBool(secure), func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			cfg := Config{Endpoint: "http://" + l.Addr().String(), AccessKey: "a", SecretKey: "b", PathStyle: true}
			if secure {
				srv := httptest.NewUnstartedServer(nil)
				srv.StartTLS()
				t.Cleanup(srv.Close)
				cfg.Endpoint = "https://" + l.Addr().String()
				cfg.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
				l = tls.NewListener(l, &tls.Config{Certificates: srv.TLS.Certificates})
			}
			t.Cleanup(func() { l.Close() })
			ended := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					_, err = io.Copy(io.Discard, conn)
					conn.Close()
				}
				ended <- err
			}()
			c, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			cut := errors.New("the sender is gone")
			body := io.MultiReader(bytes.NewReader(make([]byte, 200_000)), iotest.ErrReader(cut))
			if _, err := c.PutObject(t.Context(), "b", "k", body, 300_000, PutOptions{}); !errors.Is(err, cut) {
				t.Errorf("%v, want %v", err, cut)
			}
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the store saw the end %v, want a reset", err)
			}
		})
	}
}
