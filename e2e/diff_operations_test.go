package e2e

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"strings"
)

// diffOperation is how a program makes one request of an operation that succeeds
// where the store knows it. Sweeps send it again with each parameter and header
// that the S3 API reference lists.
type diffOperation struct {
	// bucket is where it works, main if empty.
	bucket string
	// once says that the request works once: what it needs is made anew each time.
	once bool
	// base prepares, and returns the request.
	base func(p *diffRun) Request
	// absent says that the operation is sent about a key, or a bucket, that is not
	// there, too; the zero value does so.
	notAbsent bool
}

const (
	diffBody = "the body"
	// What diffBody's digests are.
	diffETag      = "3066176185fcca35d26c1b1612a91e78"
	diffCRC32     = "lnUnwg=="
	diffCRC32C    = "lEfIpA=="
	diffCRC64NVME = "Tm8EpErIZgY="
	diffSHA1      = "OadhSBelQZmKgz9//aQh2o+slAw="
	diffSHA256    = "+oJC6Z9IlmylFAkrQjO0RoUfQrV61QMb8TPh3XZ4fz4="

	xmlns = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
)

func md5Of(body string) string {
	sum := md5.Sum([]byte(body))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// put prepares an object.
func (p *diffRun) put(key string, h ...string) Answer {
	return p.prepare(Request{Method: "PUT", Key: p.key(key), Header: headers(h...), Body: diffBody})
}

// upload prepares an upload with one part and returns its id.
func (p *diffRun) upload(key string, h ...string) (id, etag string) {
	a := p.prepare(Request{Method: "POST", Key: p.key(key), Query: values("uploads", ""), Header: headers(h...)})
	id = between(a.Body, "<UploadId>", "</UploadId>")
	part := p.prepare(Request{Method: "PUT", Key: p.key(key), Query: values("partNumber", "1", "uploadId", id), Body: diffBody})
	return id, part.Header.Get("Etag")
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

func partsXML(etags ...string) string {
	var b strings.Builder
	b.WriteString("<CompleteMultipartUpload" + xmlns + ">")
	for i, e := range etags {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, strings.ReplaceAll(e, `"`, "&quot;"))
	}
	b.WriteString("</CompleteMultipartUpload>")
	return b.String()
}

func deleteXML(quiet bool, keys ...string) string {
	var b strings.Builder
	b.WriteString("<Delete" + xmlns + ">")
	if quiet {
		b.WriteString("<Quiet>true</Quiet>")
	}
	for _, k := range keys {
		fmt.Fprintf(&b, "<Object><Key>%s</Key></Object>", k)
	}
	b.WriteString("</Delete>")
	return b.String()
}

const (
	tagsXML      = "<Tagging" + xmlns + "><TagSet><Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b c</Key><Value>2=3</Value></Tag></TagSet></Tagging>"
	lifecycleXML = "<LifecycleConfiguration" + xmlns + "><Rule><ID>r</ID><Status>Enabled</Status><Filter><Prefix>old/</Prefix></Filter><Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>"
	publicXML    = "<PublicAccessBlockConfiguration" + xmlns + "><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>"
)

// onObject is a request on an object that is prepared first.
func onObject(method string, query []string, body string, put ...string) diffOperation {
	return diffOperation{base: func(p *diffRun) Request {
		p.put("k", put...)
		r := Request{Method: method, Key: p.key("k"), Query: values(query...), Body: body}
		if body != "" {
			r.Header = headers("Content-Md5", md5Of(body))
		}
		return r
	}}
}

// onBucket is a request on a bucket.
func onBucket(bucket, method string, query []string, body string) diffOperation {
	return diffOperation{bucket: bucket, base: func(*diffRun) Request {
		r := Request{Method: method, Query: values(query...), Body: body}
		if body != "" {
			r.Header = headers("Content-Md5", md5Of(body))
		}
		return r
	}}
}

var diffOperations = func() map[string]diffOperation {
	ops := map[string]diffOperation{
		"PutObject": {base: func(p *diffRun) Request {
			return Request{Method: "PUT", Key: p.key("k"), Body: diffBody}
		}},
		"GetObject":    onObject("GET", nil, ""),
		"HeadObject":   onObject("HEAD", nil, ""),
		"DeleteObject": {once: true, base: onObject("DELETE", nil, "").base},
		"CopyObject": {base: func(p *diffRun) Request {
			p.put("from", "Content-Type", "text/x-from", "X-Amz-Meta-A", "1", "X-Amz-Tagging", "t=1")
			return Request{Method: "PUT", Key: p.key("to"), Header: headers("X-Amz-Copy-Source", p.source("from"))}
		}},
		"GetObjectAttributes": {base: func(p *diffRun) Request {
			p.put("k")
			return Request{Method: "GET", Key: p.key("k"), Query: values("attributes", ""), Header: headers("X-Amz-Object-Attributes", "ETag,Checksum,ObjectParts,StorageClass,ObjectSize")}
		}},
		"CreateMultipartUpload": {base: func(p *diffRun) Request {
			return Request{Method: "POST", Key: p.key("k"), Query: values("uploads", "")}
		}},
		"UploadPart": {base: func(p *diffRun) Request {
			id, _ := p.upload("k")
			return Request{Method: "PUT", Key: p.key("k"), Query: values("partNumber", "2", "uploadId", id), Body: diffBody}
		}},
		"UploadPartCopy": {base: func(p *diffRun) Request {
			p.put("from")
			id, _ := p.upload("k")
			return Request{Method: "PUT", Key: p.key("k"), Query: values("partNumber", "2", "uploadId", id), Header: headers("X-Amz-Copy-Source", p.source("from"))}
		}},
		"CompleteMultipartUpload": {once: true, base: func(p *diffRun) Request {
			id, etag := p.upload("k")
			return Request{Method: "POST", Key: p.key("k"), Query: values("uploadId", id), Body: partsXML(etag)}
		}},
		"AbortMultipartUpload": {once: true, base: func(p *diffRun) Request {
			id, _ := p.upload("k")
			return Request{Method: "DELETE", Key: p.key("k"), Query: values("uploadId", id)}
		}},
		"ListParts": {base: func(p *diffRun) Request {
			id, _ := p.upload("k")
			return Request{Method: "GET", Key: p.key("k"), Query: values("uploadId", id)}
		}},
		"GetObjectTagging":    onObject("GET", []string{"tagging", ""}, "", "X-Amz-Tagging", "b=c%20d&a=1"),
		"PutObjectTagging":    onObject("PUT", []string{"tagging", ""}, tagsXML),
		"DeleteObjectTagging": onObject("DELETE", []string{"tagging", ""}, "", "X-Amz-Tagging", "a=1"),
		"GetObjectAcl":        onObject("GET", []string{"acl", ""}, ""),
		"PutObjectAcl": {base: func(p *diffRun) Request {
			p.put("k")
			return Request{Method: "PUT", Key: p.key("k"), Query: values("acl", ""), Header: headers("X-Amz-Acl", "private")}
		}},
		"GetObjectLegalHold":     onObject("GET", []string{"legal-hold", ""}, ""),
		"PutObjectLegalHold":     onObject("PUT", []string{"legal-hold", ""}, "<LegalHold"+xmlns+"><Status>ON</Status></LegalHold>"),
		"GetObjectRetention":     onObject("GET", []string{"retention", ""}, ""),
		"PutObjectRetention":     onObject("PUT", []string{"retention", ""}, "<Retention"+xmlns+"><Mode>GOVERNANCE</Mode><RetainUntilDate>2036-01-01T00:00:00Z</RetainUntilDate></Retention>"),
		"GetObjectTorrent":       onObject("GET", []string{"torrent", ""}, ""),
		"RestoreObject":          onObject("POST", []string{"restore", ""}, "<RestoreRequest"+xmlns+"><Days>1</Days></RestoreRequest>"),
		"SelectObjectContent":    onObject("POST", []string{"select", "", "select-type", "2"}, "<SelectObjectContentRequest"+xmlns+"><Expression>select * from s3object</Expression><ExpressionType>SQL</ExpressionType><InputSerialization><CSV/></InputSerialization><OutputSerialization><CSV/></OutputSerialization></SelectObjectContentRequest>"),
		"UpdateObjectEncryption": onObject("PUT", []string{"encryption", ""}, "<ObjectEncryption"+xmlns+"><SSES3/></ObjectEncryption>"),

		"ListBuckets": {notAbsent: true, base: func(*diffRun) Request { return Request{Method: "GET", Bucket: "/"} }},
		"ListObjectsV2": {base: func(p *diffRun) Request {
			p.put("k")
			return Request{Method: "GET", Query: values("list-type", "2", "prefix", p.prefix)}
		}},
		"ListObjects": {base: func(p *diffRun) Request { p.put("k"); return Request{Method: "GET", Query: values("prefix", p.prefix)} }},
		"ListMultipartUploads": {bucket: "uploads", base: func(p *diffRun) Request {
			p.upload("k")
			return Request{Method: "GET", Query: values("uploads", "", "prefix", p.key("k"))}
		}},
		"ListObjectVersions": {base: func(p *diffRun) Request {
			p.put("k")
			return Request{Method: "GET", Query: values("versions", "", "prefix", p.prefix)}
		}},
		"DeleteObjects": {once: true, base: func(p *diffRun) Request {
			p.put("a")
			p.put("b")
			body := deleteXML(false, p.key("a"), p.key("b"), p.key("absent"))
			return Request{Method: "POST", Query: values("delete", ""), Body: body, Header: headers("Content-Md5", md5Of(body))}
		}},
		"HeadBucket":        onBucket("", "HEAD", nil, ""),
		"GetBucketLocation": onBucket("", "GET", []string{"location", ""}, ""),
		"CreateBucket": {notAbsent: true, once: true, base: func(p *diffRun) Request {
			return Request{Method: "PUT", Bucket: p.another()}
		}},
		"DeleteBucket": {once: true, base: func(p *diffRun) Request {
			bucket := p.another()
			p.prepare(Request{Method: "PUT", Bucket: bucket})
			return Request{Method: "DELETE", Bucket: bucket}
		}},
		"GetBucketVersioning":        onBucket("versions", "GET", []string{"versioning", ""}, ""),
		"PutBucketVersioning":        onBucket("versions", "PUT", []string{"versioning", ""}, "<VersioningConfiguration"+xmlns+"><Status>Enabled</Status></VersioningConfiguration>"),
		"GetObjectLockConfiguration": onBucket("", "GET", []string{"object-lock", ""}, ""),
		"PutObjectLockConfiguration": onBucket("settings", "PUT", []string{"object-lock", ""}, "<ObjectLockConfiguration"+xmlns+"><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"),
	}
	for _, s := range diffSettings {
		query := []string{s.query, ""}
		id := query
		if s.id {
			id = append(query, "id", "i1")
			ops["List"+s.name+"s"] = onBucket("settings", "GET", query, "")
		}
		ops["Get"+s.name] = onBucket("settings", "GET", id, "")
		if s.document != "" {
			ops["Put"+s.name] = onBucket("settings", "PUT", id, s.document)
		}
		if s.deleted != "" {
			ops[s.deleted] = onBucket("settings", "DELETE", id, "")
		}
	}
	return ops
}()

// diffSettings are the bucket settings: Get…, Put… where there is a document, and
// the name of the operation that deletes it.
var diffSettings = []struct {
	name, query string
	id          bool
	document    string
	deleted     string
}{
	{"BucketAccelerateConfiguration", "accelerate", false, "<AccelerateConfiguration" + xmlns + "><Status>Suspended</Status></AccelerateConfiguration>", ""},
	{"BucketAbac", "abac", false, "<AbacStatus" + xmlns + "><Status>Disabled</Status></AbacStatus>", ""},
	{"BucketAcl", "acl", false, "<AccessControlPolicy" + xmlns + "><Owner><ID>x</ID></Owner><AccessControlList/></AccessControlPolicy>", ""},
	{"BucketAnalyticsConfiguration", "analytics", true, "<AnalyticsConfiguration" + xmlns + "><Id>i1</Id><StorageClassAnalysis/></AnalyticsConfiguration>", "DeleteBucketAnalyticsConfiguration"},
	{"BucketCors", "cors", false, "<CORSConfiguration" + xmlns + "><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>", "DeleteBucketCors"},
	{"BucketEncryption", "encryption", false, "<ServerSideEncryptionConfiguration" + xmlns + "><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>", "DeleteBucketEncryption"},
	{"BucketIntelligentTieringConfiguration", "intelligent-tiering", true, "<IntelligentTieringConfiguration" + xmlns + "><Id>i1</Id><Status>Enabled</Status></IntelligentTieringConfiguration>", "DeleteBucketIntelligentTieringConfiguration"},
	{"BucketInventoryConfiguration", "inventory", true, "<InventoryConfiguration" + xmlns + "><Id>i1</Id><IsEnabled>true</IsEnabled></InventoryConfiguration>", "DeleteBucketInventoryConfiguration"},
	{"BucketLifecycleConfiguration", "lifecycle", false, lifecycleXML, "DeleteBucketLifecycle"},
	{"BucketLogging", "logging", false, "<BucketLoggingStatus" + xmlns + "/>", ""},
	{"BucketMetricsConfiguration", "metrics", true, "<MetricsConfiguration" + xmlns + "><Id>i1</Id></MetricsConfiguration>", "DeleteBucketMetricsConfiguration"},
	{"BucketNotificationConfiguration", "notification", false, "<NotificationConfiguration" + xmlns + "/>", ""},
	{"BucketOwnershipControls", "ownershipControls", false, "<OwnershipControls" + xmlns + "><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>", "DeleteBucketOwnershipControls"},
	{"BucketPolicy", "policy", false, `{"Version":"2012-10-17","Statement":[]}`, "DeleteBucketPolicy"},
	{"BucketPolicyStatus", "policyStatus", false, "", ""},
	{"PublicAccessBlock", "publicAccessBlock", false, publicXML, "DeletePublicAccessBlock"},
	{"BucketReplication", "replication", false, "<ReplicationConfiguration" + xmlns + "><Role>r</Role><Rule><Status>Enabled</Status><Priority>1</Priority><Destination><Bucket>arn:aws:s3:::other</Bucket></Destination></Rule></ReplicationConfiguration>", "DeleteBucketReplication"},
	{"BucketRequestPayment", "requestPayment", false, "<RequestPaymentConfiguration" + xmlns + "><Payer>BucketOwner</Payer></RequestPaymentConfiguration>", ""},
	{"BucketTagging", "tagging", false, tagsXML, "DeleteBucketTagging"},
	{"BucketWebsite", "website", false, "<WebsiteConfiguration" + xmlns + "><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>", "DeleteBucketWebsite"},
}

// another is a bucket name that nobody has yet, of this program alone.
func (p *diffRun) another() string {
	p.made++
	name := fmt.Sprintf("%s-%s%d", p.name("main"), strings.Trim(p.prefix, "/"), p.made)
	p.names = append(p.names, diffName{value: name, name: fmt.Sprintf("BUCKET:another-%d", p.made)})
	return name
}

// diffValues are what sweeps send for a parameter or a header. A value that
// depends on the object is right for diffBody.
var diffValues = map[string][]string{
	"?versionId":                    {"null", "absent"},
	"?partNumber":                   {"1", "2", "0"},
	"?response-content-type":        {"text/x-asked"},
	"?response-content-language":    {"de"},
	"?response-expires":             {"Thu, 01 Dec 2044 16:00:00 GMT"},
	"?response-cache-control":       {"no-store"},
	"?response-content-disposition": {`attachment; filename="ü.txt"`},
	"?response-content-encoding":    {"gzip"},
	"?prefix":                       {"none/"},
	"?delimiter":                    {"/"},
	"?max-keys":                     {"0", "1", "1001", "-1", "x", "2147483648"},
	"?encoding-type":                {"url", "other"},
	"?marker":                       {"0", "zzz"},
	"?start-after":                  {"0", "zzz"},
	"?continuation-token":           {"nonsense"},
	"?fetch-owner":                  {"true", "false"},
	"?key-marker":                   {"0", "zzz"},
	"?version-id-marker":            {"null"},
	"?upload-id-marker":             {"x"},
	"?max-uploads":                  {"0", "1", "-1", "x"},
	"?max-parts":                    {"0", "1", "1001", "-1", "x"},
	"?part-number-marker":           {"0", "1", "x"},
	"?max-buckets":                  {"1", "0", "x"},
	"?bucket-region":                {"us-east-1", "eu-west-1"},

	"If-Match":            {`"` + diffETag + `"`, diffETag, `"other"`, "*"},
	"If-None-Match":       {`"` + diffETag + `"`, diffETag, `"other"`, "*"},
	"If-Modified-Since":   {"Mon, 01 Jan 2001 00:00:00 GMT", "Sat, 01 Jan 2101 00:00:00 GMT", "yesterday"},
	"If-Unmodified-Since": {"Mon, 01 Jan 2001 00:00:00 GMT", "Sat, 01 Jan 2101 00:00:00 GMT", "yesterday"},
	"Range":               {"bytes=0-2", "bytes=2-", "bytes=-3", "bytes=-100", "bytes=5-100", "bytes=8-", "bytes=100-", "bytes=-0", "bytes=3-1", "bytes=0-0,2-3", "lines=1-2", "bytes=x"},

	"Cache-Control":       {"max-age=7"},
	"Content-Disposition": {`attachment; filename="a b.txt"`},
	"Content-Encoding":    {"gzip", "gzip,deflate"},
	"Content-Language":    {"de, en"},
	"Content-Type":        {"text/x-test; charset=utf-8"},
	"Expires":             {"Thu, 01 Dec 2044 16:00:00 GMT", "never"},
	"Content-Md5":         {md5Of(diffBody), "AAAAAAAAAAAAAAAAAAAAAA==", "nonsense"},

	"X-Amz-Acl":                                       {"private", "public-read", "nonsense"},
	"X-Amz-Bucket-Namespace":                          {"global"},
	"X-Amz-Bucket-Object-Lock-Enabled":                {"true"},
	"X-Amz-Bucket-Object-Lock-Token":                  {"t"},
	"X-Amz-Bypass-Governance-Retention":               {"true"},
	"X-Amz-Checksum-Algorithm":                        {"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "MD6"},
	"X-Amz-Checksum-Mode":                             {"ENABLED"},
	"X-Amz-Checksum-Type":                             {"FULL_OBJECT", "COMPOSITE", "NONE"},
	"X-Amz-Confirm-Remove-Self-Bucket-Access":         {"true"},
	"X-Amz-Expected-Bucket-Owner":                     {"123456789012"},
	"X-Amz-Source-Expected-Bucket-Owner":              {"123456789012"},
	"X-Amz-Grant-Full-Control":                        {`id="x"`},
	"X-Amz-Grant-Read":                                {`id="x"`},
	"X-Amz-Grant-Read-Acp":                            {`id="x"`},
	"X-Amz-Grant-Write":                               {`id="x"`},
	"X-Amz-Grant-Write-Acp":                           {`id="x"`},
	"X-Amz-If-Match-Initiated-Time":                   {"Mon, 01 Jan 2001 00:00:00 GMT"},
	"X-Amz-If-Match-Last-Modified-Time":               {"Mon, 01 Jan 2001 00:00:00 GMT", "yesterday"},
	"X-Amz-If-Match-Size":                             {"8", "9", "x"},
	"X-Amz-Max-Parts":                                 {"1"},
	"X-Amz-Metadata-Directive":                        {"COPY", "REPLACE", "KEEP"},
	"X-Amz-Mfa":                                       {"serial 123456"},
	"X-Amz-Mp-Object-Size":                            {"8", "9"},
	"X-Amz-Object-Attributes":                         {"ETag", "ObjectSize", "Checksum", "StorageClass", "ObjectParts", "ETag, ObjectSize", "Nonsense", ""},
	"X-Amz-Object-Lock-Event-Hold":                    {"ON"},
	"X-Amz-Object-Lock-Event-Hold-Duration-Days":      {"1"},
	"X-Amz-Object-Lock-Event-Hold-Duration-Years":     {"1"},
	"X-Amz-Object-Lock-Legal-Hold":                    {"ON"},
	"X-Amz-Object-Lock-Mode":                          {"GOVERNANCE"},
	"X-Amz-Object-Lock-Retain-Until-Date":             {"2036-01-01T00:00:00Z"},
	"X-Amz-Object-Ownership":                          {"BucketOwnerEnforced"},
	"X-Amz-Optional-Object-Attributes":                {"RestoreStatus"},
	"X-Amz-Part-Number-Marker":                        {"0", "1"},
	"X-Amz-Request-Payer":                             {"requester"},
	"X-Amz-Sdk-Checksum-Algorithm":                    {"CRC32"},
	"X-Amz-Server-Side-Encryption":                    {"AES256", "aws:kms", "nonsense"},
	"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id":     {"k"},
	"X-Amz-Server-Side-Encryption-Bucket-Key-Enabled": {"true"},
	"X-Amz-Server-Side-Encryption-Context":            {"e30="},
	"X-Amz-Skip-Destination-Validation":               {"true"},
	"X-Amz-Storage-Class":                             {"STANDARD", "REDUCED_REDUNDANCY", "NONSENSE"},
	"X-Amz-Tagging":                                   {"a=1&b=c%20d", "a=1&a=2", strings.Repeat("k", 129) + "=1", "a=%zz"},
	"X-Amz-Tagging-Directive":                         {"COPY", "REPLACE", "KEEP"},
	"X-Amz-Transition-Default-Minimum-Object-Size":    {"varies_by_storage_class"},
	"X-Amz-Website-Redirect-Location":                 {"/elsewhere"},
	"X-Amz-Object-Annotation-Directive":               {"COPY"},
	"X-Amz-Write-Offset-Bytes":                        {"8"},

	"X-Amz-Copy-Source-If-Match":            {`"` + diffETag + `"`, `"other"`},
	"X-Amz-Copy-Source-If-None-Match":       {`"` + diffETag + `"`, `"other"`},
	"X-Amz-Copy-Source-If-Modified-Since":   {"Mon, 01 Jan 2001 00:00:00 GMT", "Sat, 01 Jan 2101 00:00:00 GMT"},
	"X-Amz-Copy-Source-If-Unmodified-Since": {"Mon, 01 Jan 2001 00:00:00 GMT", "Sat, 01 Jan 2101 00:00:00 GMT"},
	"X-Amz-Copy-Source-Range":               {"bytes=0-3", "bytes=4-7", "bytes=4-100", "bytes=4-", "x"},
}

// Checksums of diffBody and false ones.
func init() {
	for name, right := range map[string]string{
		"Crc32": diffCRC32, "Crc32c": diffCRC32C, "Crc64nvme": diffCRC64NVME, "Sha1": diffSHA1, "Sha256": diffSHA256,
	} {
		diffValues["X-Amz-Checksum-"+name] = []string{right, strings.Repeat("A", len(strings.TrimRight(right, "="))) + strings.Repeat("=", len(right)-len(strings.TrimRight(right, "="))), "nonsense"}
	}
	for name, value := range map[string]string{"Md5": md5Of(diffBody), "Sha512": "AAAA", "Xxhash128": "AAAA", "Xxhash3": "AAAA", "Xxhash64": "AAAA"} {
		diffValues["X-Amz-Checksum-"+name] = []string{value}
	}
}
