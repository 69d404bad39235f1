package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/minio/crc64nvme"
)

// The values of x-amz-content-sha256, and literal for the hash of the body.
const (
	literal         = "literal"
	unsigned        = "UNSIGNED-PAYLOAD"
	signedChunks    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// sums are the checksums of S3, by the end of their header.
var sums = map[string]func() hash.Hash{
	"crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"crc64nvme": func() hash.Hash { return crc64nvme.New() },
	"sha1":      sha1.New,
	"sha256":    sha256.New,
}

func sumOf(algorithm string, content []byte) string {
	h := sums[algorithm]()
	h.Write(content)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// frame is one chunk of an aws-chunked body as it travels. data may be altered
// after it was signed.
type frame struct {
	size      int
	signature string
	data      []byte
}

// shot is a request whose body is built, and spoilt, byte by byte: what no client
// sends.
type shot struct {
	method, bucket, key string
	query               url.Values
	header              map[string]string
	form                string
	content             []byte
	// algorithm is the checksum, in a trailer where the form has trailers, else in
	// a header; "" for none.
	algorithm string
	// head changes the headers before they are signed. A body's decoded length and
	// digests are among them, and Content-Length, which is announced as it is here.
	head func(h http.Header)
	// trailers are the lines of the trailer, without their ends, before they are
	// signed; signs whether its signature is right.
	trailers func(lines []string) []string
	// frames changes the chunks after they were signed, bytes those of a plain body.
	frames func(f []frame) []frame
	bytes  func(b []byte) []byte
	// signature changes the signature of the trailer.
	signature func(s string) string
	// late changes what follows the last chunk, after it was signed.
	late func(text string) string
	// cut says how much of the body is sent, given the places where something
	// ends; nil sends all. end is what follows.
	cut func(m marks) int
	end ending
}

// ending is how a cut body ends.
type ending int

const (
	// announced: Content-Length says so from the start, so the message is whole.
	announced ending = iota
	// closed: the sender closes its side. reset: it is gone.
	closed
	reset
)

// marks are offsets in the body that travels.
type marks struct {
	inChunk, betweenChunks, lastHeader, trailer, end int
}

// errNoAnswer says that the connection ended without an answer.
var errNoAnswer = errors.New("no answer")

const (
	chunkParts = 3
	// fireWait bounds a shot: a proxy that waits for what never comes fails the test.
	fireWait = 20 * time.Second
)

// fire sends a shot on a connection of its own. It waits for an answer, or for the
// connection's end, unless the shot ends in a reset.
func (p *Proxy) fire(t testing.TB, s shot) (Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fireWait)
	defer cancel()
	head, body, m := p.load(t, s)
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	tcp := conn.(*net.TCPConn)
	send := body
	if s.cut != nil {
		send = body[:s.cut(m)]
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		// A refusal may close the connection before all is sent.
		_, werr := conn.Write(append([]byte(head), send...))
		switch {
		case s.cut == nil || werr != nil || s.end == announced:
		case s.end == closed:
			_ = tcp.CloseWrite()
		default:
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}()
	defer func() { conn.Close(); <-sent }()
	if s.end == reset {
		<-sent
		return Answer{}, errNoAnswer
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: s.method})
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text), what: s.method + " " + s.key}, nil
}

// load makes the bytes of a shot.
func (p *Proxy) load(t testing.TB, s shot) (head string, body []byte, m marks) {
	t.Helper()
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	path := "/" + escape(s.bucket)
	if s.key != "" {
		path += "/" + escape(s.key)
	}
	u.Path, u.RawQuery = path, strings.ReplaceAll(s.query.Encode(), "+", "%20")
	req, err := http.NewRequestWithContext(t.Context(), s.method, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	trailing := s.algorithm != "" && (s.form == signedTrailer || s.form == unsignedTrailer)
	chunked := strings.HasPrefix(s.form, "STREAMING-")
	for name, value := range s.header {
		req.Header.Set(name, value)
	}
	digest := s.form
	if s.form == literal {
		sum := sha256.Sum256(s.content)
		digest = hex.EncodeToString(sum[:])
	}
	if s.algorithm != "" {
		if trailing {
			req.Header.Set("X-Amz-Trailer", "x-amz-checksum-"+s.algorithm)
		} else {
			req.Header.Set("X-Amz-Checksum-"+s.algorithm, sumOf(s.algorithm, s.content))
		}
	}
	if chunked {
		req.Header.Set("Content-Encoding", "aws-chunked")
		req.Header.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(len(s.content)))
		// Signatures have a fixed length, so a first round tells the body's.
		body, m = s.encode("", nil, "", trailing)
	} else {
		body = s.content
		m = marks{inChunk: len(body) / 2, betweenChunks: len(body) / chunkParts, end: len(body)}
	}
	req.Header.Set("Content-Length", strconv.Itoa(len(body)))
	if s.cut != nil && s.end == announced {
		req.Header.Set("Content-Length", strconv.Itoa(s.cut(m)))
	}
	req.Header.Set("X-Amz-Content-Sha256", digest)
	if s.head != nil {
		s.head(req.Header)
	}
	if req.ContentLength, err = strconv.ParseInt(req.Header.Get("Content-Length"), 10, 64); err != nil {
		t.Fatal(err)
	}
	digest = req.Header.Get("X-Amz-Content-Sha256")
	length := req.Header.Get("Content-Length")
	req.Header.Del("Content-Length")
	now := time.Now().UTC()
	credentials := aws.Credentials{AccessKeyID: p.cluster.AccessKey, SecretAccessKey: p.cluster.SecretKey}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(t.Context(), credentials, req, digest, "s3", "us-east-1", now); err != nil {
		t.Fatal(err)
	}
	_, seed, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
	if chunked {
		key := []byte("AWS4" + p.cluster.SecretKey)
		for _, part := range []string{now.Format("20060102"), "us-east-1", "s3", "aws4_request"} {
			key = hmacOf(key, part)
		}
		middle := "\n" + now.Format("20060102T150405Z") + "\n" + now.Format("20060102") + "/us-east-1/s3/aws4_request\n"
		body, m = s.encode(seed, key, middle, trailing)
	} else {
		body = bytes.Clone(s.content)
		if s.bytes != nil {
			body = s.bytes(body)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %s\r\n", s.method, req.URL.RequestURI(), u.Host, length)
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		for _, v := range req.Header[name] {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	b.WriteString("\r\n")
	return b.String(), body, m
}

func hmacOf(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// encode makes the chunks. A nil key makes signatures of the right length only.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
func (s *shot) encode(previous string, key []byte, middle string, trailing bool) (body []byte, m marks) {
	sign := func(kind string, digests ...string) string {
		text := "AWS4-HMAC-SHA256-" + kind + middle + previous + "\n" + strings.Join(digests, "\n")
		previous = hex.EncodeToString(hmacOf(key, text))
		return previous
	}
	signs := s.form != unsignedTrailer
	var frames []frame
	step := (len(s.content) + chunkParts - 1) / chunkParts
	for rest := s.content; ; rest = rest[len(frames[len(frames)-1].data):] {
		n := min(step, len(rest))
		f := frame{size: n, data: bytes.Clone(rest[:n])}
		if signs {
			f.signature = sign("PAYLOAD", hexSHA256(nil), hexSHA256(f.data))
		}
		frames = append(frames, f)
		if n == 0 {
			break
		}
	}
	var lines []string
	if trailing {
		lines = append(lines, "x-amz-checksum-"+s.algorithm+":"+sumOf(s.algorithm, s.content))
	}
	if s.trailers != nil {
		lines = s.trailers(lines)
	}
	var tail strings.Builder
	for _, l := range lines {
		tail.WriteString(l + "\r\n")
	}
	if s.form == signedTrailer {
		text := strings.Join(lines, "\n")
		if text != "" {
			text += "\n"
		}
		signature := sign("TRAILER", hexSHA256([]byte(text)))
		if s.signature != nil {
			signature = s.signature(signature)
		}
		tail.WriteString("x-amz-trailer-signature:" + signature + "\r\n")
	}
	tail.WriteString("\r\n")
	end := tail.String()
	if s.frames != nil {
		frames = s.frames(frames)
	}
	if s.late != nil {
		end = s.late(end)
	}
	var b bytes.Buffer
	for i, f := range frames {
		if f.size == 0 && i == len(frames)-1 {
			m.lastHeader = b.Len()
		}
		fmt.Fprintf(&b, "%x", f.size)
		if f.signature != "" {
			b.WriteString(";chunk-signature=" + f.signature)
		}
		b.WriteString("\r\n")
		if i == 1 {
			m.inChunk = b.Len() + len(f.data)/2
		}
		if f.size > 0 {
			b.Write(f.data)
			b.WriteString("\r\n")
		}
		if i == 0 {
			m.betweenChunks = b.Len()
		}
	}
	m.trailer = b.Len()
	b.WriteString(end)
	m.end = b.Len()
	return b.Bytes(), m
}

// flipped returns a change of a plain body, and of chunks, that flips one bit in
// the first, middle or last third.
func flipped(third int) (func(b []byte) []byte, func(f []frame) []frame) {
	plain := func(b []byte) []byte { b[[]int{0, len(b) / 2, len(b) - 1}[third]] ^= 1; return b }
	chunks := func(f []frame) []frame {
		d := f[third].data
		d[[]int{0, len(d) / 2, len(d) - 1}[third]] ^= 1
		return f
	}
	return plain, chunks
}

// etagOf is the ETag of bytes that were sent in one piece, with quotes.
func etagOf(content []byte) string {
	sum := md5.Sum(content)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}
