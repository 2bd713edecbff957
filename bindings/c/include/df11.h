// The DF11 codec: units of DF11, frames, archives of dietgpu. df11_files.h reads checkpoint files.
//
// Memory. The library keeps no memory and hands none out: the caller allocates every buffer and
// every structure. Structures that stand for something open (df11_unit, df11_frame) lie in the
// caller's memory and borrow the bytes that they were opened with. They need no closing. Bytes need
// no alignment; structures need that of their type. Output, bytes or structures, must not overlap
// with input, which is checked. Some functions take memory from the allocator while they run; their
// comments say how much. If the allocator has none, the process is aborted. No function uses more
// than 64 KiB of stack.
//
// Results. Functions return DF11_OK (0) or the kind of failure. If the caller passes a df11_error,
// it describes the failure. NULL, wrong lengths and numbers out of range are detected, and give
// DF11_INVALID_INPUT. Dangling pointers cannot be detected. Whatever the bytes are, no function
// crashes, hangs, or writes outside the buffers that it was given.
//
// Threads. There is no global state. Functions may be called from any thread. Objects that are
// passed as const may be shared.
//
// SPDX-License-Identifier: MIT OR Apache-2.0


#ifndef DF11_H
#define DF11_H

// Made by bindings/c/headers.sh from the sources of the library; change those.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The largest number of dimensions of a tensor in a frame.
#define DF11_MAX_RANK 32

// Plain bytes, and any type without a number of its own.
#define DF11_TYPE_U8 0

// BF16.
#define DF11_TYPE_BF16 1

// IEEE 754 half precision.
#define DF11_TYPE_F16 2

// IEEE 754 single precision.
#define DF11_TYPE_F32 3

// 8 bits, 4 of them exponent.
#define DF11_TYPE_F8_E4M3 4

// 8 bits, 5 of them exponent.
#define DF11_TYPE_F8_E5M2 5

// The codec of a frame whose elements are kept as they are.
#define DF11_CODEC_RAW 0

// The codec of a frame with rANS.
#define DF11_CODEC_RANS 1

// The codec of a frame with a dictionary.
#define DF11_CODEC_DICTIONARY 3

// The status of a finished call.
typedef enum df11_status {
  // All went well.
  DF11_OK = 0,
  // Bytes are missing. More of the same input could make it valid.
  DF11_TRUNCATED = 1,
  // The bytes are complete and contradict the format.
  DF11_CORRUPT = 2,
  // The data is valid, but the layout cannot hold it.
  DF11_UNSUPPORTED = 3,
  // A stated limit of the layout is exceeded.
  DF11_LIMIT_EXCEEDED = 4,
  // The data decodes, but does not match its checksum.
  DF11_CHECKSUM = 5,
  // The call is wrong: a NULL pointer, a buffer of the wrong length, an index out of range,
  // memory that overlaps or was never opened, or the name of a tensor that does not exist.
  DF11_INVALID_INPUT = 6,
  // The operating system refused to open, read or map a file.
  DF11_IO = 7,
  // A defect of the library; please report the message.
  DF11_INTERNAL = 8,
} df11_status;

// An open unit. It lies in the caller's memory, may be copied, and needs no closing. It borrows
// the parts that it was opened with, which must stay in place, unchanged, while it is used.
// Several threads may use it at the same time.
typedef struct df11_unit {
  // Internal to the library.
  uint64_t opaque[32];
} df11_unit;

// Bytes of the caller that are only read. `data` may be NULL if `len` is 0. It needs no alignment.
typedef struct df11_bytes {
  // The first byte.
  const uint8_t *data;
  // The number of bytes.
  size_t len;
} df11_bytes;

// The six parts of a unit, as a file stores them. They are borrowed, not copied.
typedef struct df11_tensors {
  // Prefix tables and code lengths.
  struct df11_bytes luts;
  // Codewords of the exponents.
  struct df11_bytes encoded_exponent;
  // Signs and mantissas, one byte each.
  struct df11_bytes sign_mantissa;
  // The positions where each block's weights begin.
  struct df11_bytes output_positions;
  // The bit offset of the first codeword of each window.
  struct df11_bytes gaps;
  // The positions where one tensor ends and the next begins.
  struct df11_bytes split_positions;
} df11_tensors;

// The description of a failure, in the caller's memory. Pass NULL if you do not need it.
//
// Every function that takes one writes it, also when it succeeds. Texts are UTF-8 and end with a
// zero byte. A text that is too long is cut.
typedef struct df11_error {
  // The status that the function returned.
  enum df11_status status;
  // The broken clause of the specification, as in "D-5.6" (DF11.md), "F-3.1" (FRAME.md), "R-2.1"
  // (RANS.md) or "G-2.2" (DIETGPU.md); empty where no clause is broken.
  char clause[12];
  // One line: the rule, the place where it is broken (file, tensor, offset), and the values that
  // break it.
  char message[240];
} df11_error;

// The description of a unit.
typedef struct df11_unit_info {
  // The number of weights. Each has two bytes.
  size_t elements;
  // The number of tensors.
  size_t tensors;
  // The number of blocks. Each can be decoded on its own.
  size_t blocks;
  // The number of weights in the largest block.
  size_t largest_block;
} df11_unit_info;

// The size in bytes of each part of a unit.
typedef struct df11_sizes {
  // Prefix tables and code lengths.
  size_t luts;
  // Codewords of the exponents.
  size_t encoded_exponent;
  // Signs and mantissas.
  size_t sign_mantissa;
  // Output positions.
  size_t output_positions;
  // Gaps.
  size_t gaps;
  // Split positions.
  size_t split_positions;
} df11_sizes;

// A unit that is about to be encoded: its code, its tables, and the size of each part. It lies in
// the caller's memory, borrows nothing, may be copied, and needs no closing.
typedef struct df11_plan {
  // Internal to the library.
  uint64_t opaque[1024];
} df11_plan;

// Options of the encoder. With any of them, every decoder of the layout reads the unit. NULL
// stands for the defaults, 1 and 32.
typedef struct df11_options {
  // The length of the shortest codeword in bits, 1 to 8. With 2, no block holds more than 16,384
  // weights.
  uint8_t least_code_length;
  // The length of the longest codeword in bits, up to 32.
  uint8_t max_code_length;
} df11_options;

// Memory of the caller that is written. `data` may be NULL if `len` is 0. It needs no alignment.
typedef struct df11_buffer {
  // The first byte.
  uint8_t *data;
  // The number of bytes.
  size_t len;
} df11_buffer;

// The memory for the parts of a unit. `df11_plan_sizes` gives the length of each.
typedef struct df11_buffers {
  // Prefix tables and code lengths.
  struct df11_buffer luts;
  // Codewords of the exponents.
  struct df11_buffer encoded_exponent;
  // Signs and mantissas.
  struct df11_buffer sign_mantissa;
  // Output positions.
  struct df11_buffer output_positions;
  // Gaps.
  struct df11_buffer gaps;
  // Split positions.
  struct df11_buffer split_positions;
} df11_buffers;

// An open frame. It lies in the caller's memory, may be copied, and needs no closing. It borrows
// the bytes that it was opened with, which must stay in place, unchanged, while it is used.
// Several threads may use it at the same time.
typedef struct df11_frame {
  // Internal to the library.
  uint64_t opaque[128];
} df11_frame;

// The description of a frame.
typedef struct df11_frame_info {
  // The element type: `DF11_TYPE_BF16` and so on.
  uint8_t element_type;
  // The codec: `DF11_CODEC_RAW`, `DF11_CODEC_RANS` or `DF11_CODEC_DICTIONARY`.
  uint8_t codec;
  // The number of dimensions.
  size_t rank;
  // The dimensions; the last one is contiguous. The rest of the array is 0.
  uint64_t shape[DF11_MAX_RANK];
  // The number of elements.
  size_t elements;
  // The size of the decoded elements in bytes.
  size_t elements_bytes;
  // The number of blocks.
  size_t blocks;
  // The number of elements of every block but the last, which may have fewer.
  size_t block_elements;
  // The CRC-32 of all elements, as they were encoded.
  uint32_t digest;
} df11_frame_info;

// The table for decoding frames: 52 KiB, in the caller's memory. Several threads may use a table
// that was built for a frame at the same time. It borrows nothing and needs no closing. Build it
// where it stays: the table is aligned to a cache line, so a copy may be refused.
typedef struct df11_table {
  // Internal to the library.
  uint64_t opaque[6656];
} df11_table;

// The description of a dietgpu archive.
typedef struct df11_dietgpu_info {
  // The element type: F16, BF16 or F32 for a float archive, `DF11_TYPE_U8` for an archive of
  // bytes.
  uint8_t element_type;
  // The number of elements.
  size_t elements;
  // The size of the decoded elements in bytes.
  size_t elements_bytes;
  // The size of the archive in bytes. Bytes behind it are ignored.
  size_t archive_bytes;
} df11_dietgpu_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns the version of the library, as in "0.1.0". The pointer is never NULL, and always stays
// valid.
const char *df11_version(void);

// Computes the CRC-32 (that of Ethernet and zip) of some bytes, continued from `seed`, which is 0
// at the start. Frames use this checksum. `data` may be NULL if `len` is 0.
//
// `data` must be valid for reads of `len` bytes, or NULL.
uint32_t df11_crc32(uint32_t seed, const uint8_t *data, size_t len);

// Opens a unit. Checks its tables, its output and split positions, and all lengths. The time is
// proportional to the number of blocks. Codewords and gaps are checked when they are decoded.
//
// `unit` is memory of the caller. A success replaces its content.
//
// `unit` must be valid for writes of a `df11_unit`, or NULL. `tensors` must be valid for reads of
// a `df11_tensors`, or NULL, and the `data` of each part for reads of `len` bytes, or NULL. The
// parts must stay unchanged while the unit is used. The unit must not overlap with the parts,
// which is checked. `error` must be valid for writes of a `df11_error`, or NULL, and must not
// overlap with anything else.
enum df11_status df11_unit_open(struct df11_unit *unit, const struct df11_tensors *tensors, struct df11_error *error);

// Describes a unit.
//
// `unit` must be valid for reads of a `df11_unit`, or NULL, and the parts that it was opened with
// must be unchanged. `info` must be valid for writes of a `df11_unit_info`, or NULL; it must not
// overlap with the unit, which is checked. `error` must be valid for writes of a `df11_error`, or
// NULL, and must not overlap with anything else.
enum df11_status df11_unit_describe(const struct df11_unit *unit,
                                    struct df11_unit_info *info,
                                    struct df11_error *error);

// Gives the range of a tensor's weights in the unit: from `*start` to before `*end`.
//
// `unit` must be valid for reads of a `df11_unit`, or NULL, and the parts that it was opened with
// must be unchanged. `start` and `end` must each be valid for writes of a `size_t`, or NULL; they
// must not overlap with the unit, which is checked. `error` must be valid for writes of a
// `df11_error`, or NULL, and must not overlap with anything else.
enum df11_status df11_unit_tensor_range(const struct df11_unit *unit,
                                        size_t tensor,
                                        size_t *start,
                                        size_t *end,
                                        struct df11_error *error);

// Gives the range of a block's weights in the unit: from `*start` to before `*end`.
//
// The requirements are those of `df11_unit_tensor_range`.
enum df11_status df11_unit_block_range(const struct df11_unit *unit,
                                       size_t block,
                                       size_t *start,
                                       size_t *end,
                                       struct df11_error *error);

// Decodes all weights of a unit to `out`, tensor by tensor: two bytes each, little-endian.
// `out_len` must be twice the number of elements. For 1,024 weights or more, the call takes 48 KiB
// from the allocator while it runs.
//
// After a failure, the content of `out` is unspecified.
//
// `unit` must be valid for reads of a `df11_unit`, or NULL, and the parts that it was opened with
// must be unchanged. `out` must be valid for writes of `out_len` bytes, or NULL; it must not
// overlap with the unit or its parts, which is checked. `error` must be valid for writes of a
// `df11_error`, or NULL, and must not overlap with anything else.
enum df11_status df11_unit_decode(const struct df11_unit *unit, uint8_t *out, size_t out_len, struct df11_error *error);

// Decodes the weights from `start` to before `end`. `out_len` must be twice their number. If the
// range contains whole blocks with 1,024 weights or more, the call takes 48 KiB from the allocator
// while it runs.
//
// The requirements are those of `df11_unit_decode`.
enum df11_status df11_unit_decode_range(const struct df11_unit *unit,
                                        size_t start,
                                        size_t end,
                                        uint8_t *out,
                                        size_t out_len,
                                        struct df11_error *error);

// Decodes the blocks from `first` to before `last`. `out_len` must be twice the number of their
// weights. Calls for different blocks may run on different threads. For 1,024 weights or more,
// each call takes 48 KiB from the allocator and builds tables there, which takes as long as
// decoding some ten thousand weights. Decode many blocks in a call for this reason.
//
// The requirements are those of `df11_unit_decode`.
enum df11_status df11_unit_decode_blocks(const struct df11_unit *unit,
                                         size_t first,
                                         size_t last,
                                         uint8_t *out,
                                         size_t out_len,
                                         struct df11_error *error);

// Decodes all weights like `df11_unit_decode`, and checks every rule of the format, including the
// gaps, on which decoders for GPUs rely. For 1,024 weights or more, the call takes up to 112 KiB
// from the allocator while it runs.
//
// The requirements are those of `df11_unit_decode`.
enum df11_status df11_unit_verify(const struct df11_unit *unit, uint8_t *out, size_t out_len, struct df11_error *error);

// Gives the largest possible size of each part of a unit, whatever the weights are.
//
// `sizes` must be valid for writes of a `df11_sizes`, or NULL. `error` must be valid for writes of
// a `df11_error`, or NULL. The two must not overlap.
enum df11_status df11_unit_bound(size_t elements, size_t tensors, struct df11_sizes *sizes, struct df11_error *error);

// Plans the unit of these tensors, in this order. Each is BF16, little-endian, and needs no
// alignment. Reads every weight once. For 65,536 weights or more, the call takes up to 136 KiB
// from the allocator while it runs.
//
// A unit cannot hold weights whose magnitude is 2^113 or more, infinities and NaN: the result is
// `DF11_UNSUPPORTED`. Frames can hold them.
//
// `plan` must be valid for writes of a `df11_plan`, or NULL. `tensors` must be valid for reads of
// `count` structures, or NULL, and the `data` of each for reads of `len` bytes, or NULL. `options`
// must be valid for reads of a `df11_options`, or NULL. `error` must be valid for writes of a
// `df11_error`, or NULL. The plan must not overlap with the tensors, which is checked. `error`
// must not overlap with anything else.
enum df11_status df11_plan_new(struct df11_plan *plan,
                               const struct df11_bytes *tensors,
                               size_t count,
                               const struct df11_options *options,
                               struct df11_error *error);

// Gives the exact size of each part that `df11_plan_encode` will write.
//
// `plan` must be valid for reads of a `df11_plan`, or NULL. `sizes` must be valid for writes of a
// `df11_sizes`, or NULL; it must not overlap with the plan, which is checked. `error` must be
// valid for writes of a `df11_error`, or NULL, and must not overlap with either.
enum df11_status df11_plan_sizes(const struct df11_plan *plan, struct df11_sizes *sizes, struct df11_error *error);

// Encodes the tensors that were planned. The same tensors and options always give the same bytes.
// For 65,536 weights or more, the call takes up to 576 KiB from the allocator while it runs.
//
// After a failure, the content of the buffers is unspecified. Verify what you keep: call
// `df11_unit_verify`, then compare.
//
// `plan` must be valid for reads of a `df11_plan`, or NULL. `tensors` must be valid for reads of
// `count` structures, or NULL, and the `data` of each for reads of `len` bytes, or NULL. `buffers`
// must be valid for reads of a `df11_buffers`, or NULL, and the `data` of each of its buffers for
// writes of `len` bytes, or NULL. No buffer may overlap with another, with a tensor or with the
// plan, which is checked. `error` must be valid for writes of a `df11_error`, or NULL, and must
// not overlap with anything else.
enum df11_status df11_plan_encode(const struct df11_plan *plan,
                                  const struct df11_bytes *tensors,
                                  size_t count,
                                  const struct df11_buffers *buffers,
                                  struct df11_error *error);

// Opens the frame in these bytes. Checks its header, its directory and its trailer, including
// their checksums. The checksum of a block is checked when it is decoded. `frame` is memory of the
// caller.
//
// `frame` must be valid for writes of a `df11_frame`, or NULL. `data` must be valid for reads of
// `len` bytes, or NULL, and the bytes must stay unchanged while the frame is used. The frame must
// not overlap with the bytes, which is checked. `error` must be valid for writes of a
// `df11_error`, or NULL, and must not overlap with either.
enum df11_status df11_frame_open(struct df11_frame *frame, const uint8_t *data, size_t len, struct df11_error *error);

// Describes a frame.
//
// `frame` must be valid for reads of a `df11_frame`, or NULL, and the bytes that it was opened
// with must be unchanged. `info` must be valid for writes of a `df11_frame_info`, or NULL; it must
// not overlap with the frame, which is checked. `error` must be valid for writes of a
// `df11_error`, or NULL, and must not overlap with anything else.
enum df11_status df11_frame_describe(const struct df11_frame *frame,
                                     struct df11_frame_info *info,
                                     struct df11_error *error);

// Builds the table for decoding the blocks of a frame, which takes some microseconds. `table` is
// memory of the caller.
//
// `frame` must be valid for reads of a `df11_frame`, or NULL, and the bytes that it was opened
// with must be unchanged. `table` must be valid for writes of a `df11_table`, or NULL; it must not
// overlap with the frame or its bytes, which is checked. `error` must be valid for writes of a
// `df11_error`, or NULL, and must not overlap with anything else.
enum df11_status df11_frame_build_table(const struct df11_frame *frame,
                                        struct df11_table *table,
                                        struct df11_error *error);

// Decodes all elements of a frame, little-endian, with the table that was built for it. `out_len`
// must be `elements_bytes`.
//
// After a failure, the content of `out` is unspecified. The call fails if the frame needs a table
// and this one was built for another frame. For more than 4 MiB of BF16, it takes 256 KiB from the
// allocator while it runs.
//
// `frame` and `table` must be valid for reads of a `df11_frame` and a `df11_table`, or NULL, and
// the bytes that the frame was opened with must be unchanged. `out` must be valid for writes of
// `out_len` bytes, or NULL; it must not overlap with the frame, its bytes or the table, which is
// checked. `error` must be valid for writes of a `df11_error`, or NULL, and must not overlap with
// anything else.
enum df11_status df11_frame_decode(const struct df11_frame *frame,
                                   const struct df11_table *table,
                                   uint8_t *out,
                                   size_t out_len,
                                   struct df11_error *error);

// Decodes the blocks from `first` to before `last`. `out_len` must be the size of their elements.
// Calls for different blocks may run on different threads.
//
// The requirements are those of `df11_frame_decode`.
enum df11_status df11_frame_decode_blocks(const struct df11_frame *frame,
                                          const struct df11_table *table,
                                          size_t first,
                                          size_t last,
                                          uint8_t *out,
                                          size_t out_len,
                                          struct df11_error *error);

// Returns the largest size in bytes of a frame for a tensor of this type and shape; 0 if there can
// be none.
//
// `shape` must be valid for reads of `rank` dimensions, or NULL.
size_t df11_frame_bound(uint8_t element_type, const uint64_t *shape, size_t rank);

// Encodes a tensor as a frame to `out`, which has room for `out_len` bytes, and sets `*written` to
// the size of the frame. `df11_frame_bound` gives a size that is always enough. If compression
// would not make the tensor smaller, the frame stores it uncompressed. While it runs, the call
// takes less than 3 MiB, plus 64 bytes for every 65,536 elements, from the allocator.
//
// `shape` must be valid for reads of `rank` dimensions, or NULL, and `elements` for reads of
// `elements_len` bytes, or NULL. `out` must be valid for writes of `out_len` bytes, or NULL; it
// must not overlap with the elements or the shape, which is checked. `written` must be valid for
// writes of a `size_t`, or NULL, and `error` for writes of a `df11_error`, or NULL. Neither may
// overlap with anything else.
enum df11_status df11_frame_encode(uint8_t element_type,
                                   const uint64_t *shape,
                                   size_t rank,
                                   const uint8_t *elements,
                                   size_t elements_len,
                                   uint8_t *out,
                                   size_t out_len,
                                   size_t *written,
                                   struct df11_error *error);

// Checks the archive of dietgpu, of floats or of bytes, at the front of `data`, and describes it.
//
// `data` must be valid for reads of `len` bytes, or NULL. `info` must be valid for writes of a
// `df11_dietgpu_info`, or NULL. `error` must be valid for writes of a `df11_error`, or NULL. What
// is written must not overlap with the archive.
enum df11_status df11_dietgpu_describe(const uint8_t *data,
                                       size_t len,
                                       struct df11_dietgpu_info *info,
                                       struct df11_error *error);

// Decodes an archive of dietgpu, of floats or of bytes. `out_len` must be its `elements_bytes`.
// The call uses some 30 KiB of stack and no allocator.
//
// After a failure, the content of `out` is unspecified.
//
// `data` must be valid for reads of `len` bytes, or NULL. `out` must be valid for writes of
// `out_len` bytes, or NULL; it must not overlap with the archive, which is checked. `error` must
// be valid for writes of a `df11_error`, or NULL, and must not overlap with either.
enum df11_status df11_dietgpu_decode(const uint8_t *data,
                                     size_t len,
                                     uint8_t *out,
                                     size_t out_len,
                                     struct df11_error *error);

// Returns the largest size in bytes of an archive of this many elements; 0 if there can be none.
size_t df11_dietgpu_bound(uint8_t element_type, size_t elements);

// Encodes elements as an archive of dietgpu to `out`, which has room for `out_len` bytes, and sets
// `*written` to the size of the archive. `element_type` is F16, BF16 or F32, or `DF11_TYPE_U8` for
// an archive of bytes. `scale_bits` is 9 to 11; dietgpu itself uses 10. `checksum` says whether
// the archive gets a checksum. While it runs, the call takes less than four times the size of the
// archive, plus 40 KiB, from the allocator.
//
// `elements` must be valid for reads of `elements_len` bytes, or NULL. `out` must be valid for
// writes of `out_len` bytes, or NULL; it must not overlap with the elements, which is checked.
// `written` must be valid for writes of a `size_t`, or NULL, and `error` for writes of a
// `df11_error`, or NULL. Neither may overlap with anything else.
enum df11_status df11_dietgpu_encode(uint8_t element_type,
                                     const uint8_t *elements,
                                     size_t elements_len,
                                     uint8_t scale_bits,
                                     bool checksum,
                                     uint8_t *out,
                                     size_t out_len,
                                     size_t *written,
                                     struct df11_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DF11_H */
