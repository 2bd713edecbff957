// The DF11 codec: units of DF11, frames with rANS, archives of dietgpu. Checkpoints in files: df11_files.h.
//
// Memory. The library keeps nothing of its own and hands out no memory: the caller allocates every buffer and every structure.
// Structures that stand for something open (df11_unit, df11_frame) lie in memory of the caller and borrow the bytes they were
// opened with; they need no closing. Bytes need no alignment, structures that of their type. What is written must not overlap
// with what is read, bytes or structures; that is checked. Some functions take memory from the allocator while they run, and say
// how much; where it has none, the process is aborted. None uses more than 64 KiB of stack.
//
// Results. Functions return DF11_OK (0) or what kind of failure it was; a df11_error tells more, to whoever passes one. NULL,
// wrong lengths and numbers out of range are noticed and are DF11_INVALID_INPUT; pointers to memory that is not there cannot
// be noticed. Whatever the bytes are, nothing crashes, hangs, or writes outside of the buffers it was given.
//
// Threads. There is no global state. Functions may be called from any thread; what is passed as const may be shared.
//
// SPDX-License-Identifier: MIT OR Apache-2.0


#ifndef DF11_H
#define DF11_H

// Made by bindings/c/headers.sh from the sources of the library; change those.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The most dimensions of a tensor in a frame.
#define DF11_MAX_RANK 32

// Plain bytes, and whatever has no type of its own.
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

// How a function ended.
typedef enum df11_status {
  // All went well.
  DF11_OK = 0,
  // Bytes are missing: more of the same input could make it valid.
  DF11_TRUNCATED = 1,
  // The bytes are there and contradict the format.
  DF11_CORRUPT = 2,
  // The data is sound, but the layout has no way to hold it.
  DF11_UNSUPPORTED = 3,
  // A stated limit of the layout is exceeded.
  DF11_LIMIT_EXCEEDED = 4,
  // The data decodes, but not to what its checksum promises.
  DF11_CHECKSUM = 5,
  // The caller passed something that cannot be meant: a NULL pointer, a buffer of the wrong length, a range that is not
  // there, memory that overlaps or was never opened, a name that no tensor has.
  DF11_INVALID_INPUT = 6,
  // The operating system refused to open, read or map a file.
  DF11_IO = 7,
  // A defect of the library; please report the message.
  DF11_INTERNAL = 8,
} df11_status;

// An open unit. Lies in memory of the caller, and may be copied; needs no closing. It borrows the parts that it was opened
// with, which must stay where they are, unchanged, as long as it is used. Many threads may use one at the same time.
typedef struct df11_unit {
  // The library's own.
  uint64_t opaque[32];
} df11_unit;

// Bytes of the caller that are only read. `data` may be NULL if `len` is 0; it needs no alignment.
typedef struct df11_bytes {
  // The first byte.
  const uint8_t *data;
  // How many there are.
  size_t len;
} df11_bytes;

// The six parts of a unit, as they lie in a file. They are borrowed, not copied.
typedef struct df11_tensors {
  // Prefix tables and code lengths.
  struct df11_bytes luts;
  // Codewords of the exponents.
  struct df11_bytes encoded_exponent;
  // Signs and mantissas, a byte each.
  struct df11_bytes sign_mantissa;
  // Where each block's weights begin.
  struct df11_bytes output_positions;
  // Where the first codeword of each window begins.
  struct df11_bytes gaps;
  // Where one tensor ends and the next begins.
  struct df11_bytes split_positions;
} df11_tensors;

// What went wrong, in memory of the caller. Pass NULL where nobody wants to know.
//
// Written by every function that takes one, also when all went well. Texts are UTF-8, end with a zero byte, and are cut where
// they would be longer.
typedef struct df11_error {
  // The same as the function returned.
  enum df11_status status;
  // The clause of the specification that is broken, as in "D-5.6" (DF11.md), "F-3.1" (FRAME.md), "R-2.1" (RANS.md) or "G-2.2"
  // (DIETGPU.md); empty where no clause is.
  char clause[12];
  // One line: the rule, where it is broken (file, tensor, offset), the values that break it.
  char message[240];
} df11_error;

// What a unit holds.
typedef struct df11_unit_info {
  // Weights, of two bytes each.
  size_t elements;
  // Tensors that they make.
  size_t tensors;
  // Blocks, which can be decoded one by one.
  size_t blocks;
  // Weights of the largest block.
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

// A unit that is about to be encoded: its code, its tables, and the size of everything. Lies in memory of the caller, borrows
// nothing, may be copied, and needs no closing.
typedef struct df11_plan {
  // The library's own.
  uint64_t opaque[1024];
} df11_plan;

// Choices of an encoder; any gives a unit that every decoder of the layout reads. Pass NULL for the usual ones: 1 and 32.
typedef struct df11_options {
  // The shortest codeword, in bits, 1 to 8. With 2, no block holds more than 16,384 weights.
  uint8_t least_code_length;
  // The longest codeword, in bits, up to 32.
  uint8_t max_code_length;
} df11_options;

// Memory of the caller that is written. `data` may be NULL if `len` is 0; it needs no alignment.
typedef struct df11_buffer {
  // The first byte.
  uint8_t *data;
  // How many there are.
  size_t len;
} df11_buffer;

// Where the parts of a unit are written; each as long as `df11_plan_sizes` says.
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

// An open frame. Lies in memory of the caller, and may be copied; needs no closing. It borrows the bytes that it was opened
// with, which must stay where they are, unchanged, as long as it is used. Many threads may use one at the same time.
typedef struct df11_frame {
  // The library's own.
  uint64_t opaque[128];
} df11_frame;

// What a frame holds.
typedef struct df11_frame_info {
  // The type of its elements: `DF11_TYPE_BF16` and so on.
  uint8_t element_type;
  // How they are stored: `DF11_CODEC_RAW`, `DF11_CODEC_RANS` or `DF11_CODEC_DICTIONARY`.
  uint8_t codec;
  // How many dimensions there are.
  size_t rank;
  // The dimensions, the last of which is contiguous; 0 behind them.
  uint64_t shape[DF11_MAX_RANK];
  // The number of elements.
  size_t elements;
  // The bytes that they take, decoded.
  size_t elements_bytes;
  // The number of blocks.
  size_t blocks;
  // The elements of every block but the last, which may have fewer.
  size_t block_elements;
  // CRC-32 of all elements, as they were encoded.
  uint32_t digest;
} df11_frame_info;

// The table that decoding of frames needs: 52 KiB, in memory of the caller. One that has been built for a frame can
// be used by many threads at the same time; it borrows nothing and needs no closing. Build it where it stays: a copy may be
// refused, since the table begins where a line of the cache does.
typedef struct df11_table {
  // The library's own.
  uint64_t opaque[6656];
} df11_table;

// What an archive of dietgpu holds.
typedef struct df11_dietgpu_info {
  // The type of its elements: F16, BF16 or F32 of a float archive, `DF11_TYPE_U8` of an archive of bytes.
  uint8_t element_type;
  // The number of elements.
  size_t elements;
  // The bytes that they take, decoded.
  size_t elements_bytes;
  // The bytes of the archive; what follows it belongs to something else.
  size_t archive_bytes;
} df11_dietgpu_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library, as in "0.1.0". Never NULL; lives as long as the library.
const char *df11_version(void);

// CRC-32 (that of Ethernet and zip) of some bytes, continued from `seed`, which is 0 at the start: what frames are checked by.
// `data` may be NULL if `len` is 0.
//
// `data` must point to `len` bytes that can be read.
uint32_t df11_crc32(uint32_t seed,
                    const uint8_t *data,
                    size_t len);

// Opens a unit: checks its tables, its output and split positions and all lengths. Takes time in proportion to the number of
// blocks; codewords and gaps are checked as they are decoded.
//
// `unit` is memory of the caller; whatever it held is replaced if all goes well.
//
// Pointers must be NULL or valid, and the parts stay as long as the unit is used.
enum df11_status df11_unit_open(struct df11_unit *unit,
                                const struct df11_tensors *tensors,
                                struct df11_error *error);

// Says what a unit holds.
//
// Pointers must be NULL or valid.
enum df11_status df11_unit_describe(const struct df11_unit *unit,
                                    struct df11_unit_info *info,
                                    struct df11_error *error);

// Gives the weights of a tensor of the unit: from `*start` to before `*end`.
//
// Pointers must be NULL or valid.
enum df11_status df11_unit_tensor_range(const struct df11_unit *unit,
                                        size_t tensor,
                                        size_t *start,
                                        size_t *end,
                                        struct df11_error *error);

// Gives the weights of a block: from `*start` to before `*end`.
//
// Pointers must be NULL or valid.
enum df11_status df11_unit_block_range(const struct df11_unit *unit,
                                       size_t block,
                                       size_t *start,
                                       size_t *end,
                                       struct df11_error *error);

// Decodes all weights of a unit to `out`, all tensors one after the other: two bytes each, little-endian. `out_len` must be
// twice the number of elements. From 1,024 weights on it takes 48 KiB from the allocator while it runs.
//
// If it fails, what is in `out` is unspecified.
//
// Pointers must be NULL or valid.
enum df11_status df11_unit_decode(const struct df11_unit *unit,
                                  uint8_t *out,
                                  size_t out_len,
                                  struct df11_error *error);

// Decodes the weights from `start` to before `end`; `out_len` must be twice their number. Where whole blocks of 1,024 weights and
// more lie within, it takes 48 KiB from the allocator while it runs.
//
// Pointers must be NULL or valid.
enum df11_status df11_unit_decode_range(const struct df11_unit *unit,
                                        size_t start,
                                        size_t end,
                                        uint8_t *out,
                                        size_t out_len,
                                        struct df11_error *error);

// Decodes the blocks from `first` to before `last`; `out_len` must be twice the number of their weights. Calls for different
// blocks may run on different threads. From 1,024 weights on, each call takes 48 KiB from the allocator and builds tables there,
// which takes as long as decoding some ten thousand weights: so decode many blocks in a call.
//
// Pointers must be NULL or valid.
enum df11_status df11_unit_decode_blocks(const struct df11_unit *unit,
                                         size_t first,
                                         size_t last,
                                         uint8_t *out,
                                         size_t out_len,
                                         struct df11_error *error);

// Decodes all weights like `df11_unit_decode`, and checks every rule of the format: also the gaps, on which decoders for
// GPUs rely. From 1,024 weights on it takes up to 112 KiB from the allocator while it runs.
//
// Pointers must be NULL or valid.
enum df11_status df11_unit_verify(const struct df11_unit *unit,
                                  uint8_t *out,
                                  size_t out_len,
                                  struct df11_error *error);

// The most that each part of a unit takes, whatever the weights are.
//
// Pointers must be NULL or valid.
enum df11_status df11_unit_bound(size_t elements, size_t tensors, struct df11_sizes *sizes, struct df11_error *error);

// Plans the unit that these tensors make, in this order. Each is BF16, little-endian; pointers need no alignment. Reads every
// weight once. From 65,536 weights on it takes up to 136 KiB from the allocator while it runs.
//
// Weights whose magnitude is 2^113 or more, infinities and NaN have no place in a unit: `DF11_UNSUPPORTED`. Frames take them.
//
// Pointers must be NULL or valid.
enum df11_status df11_plan_new(struct df11_plan *plan,
                               const struct df11_bytes *tensors,
                               size_t count,
                               const struct df11_options *options,
                               struct df11_error *error);

// Gives the exact size of each part that `df11_plan_encode` will write.
//
// Pointers must be NULL or valid.
enum df11_status df11_plan_sizes(const struct df11_plan *plan, struct df11_sizes *sizes, struct df11_error *error);

// Encodes the tensors that were planned. The same tensors and options always give the same bytes. For 65,536 weights and more
// it takes up to 576 KiB from the allocator while it runs.
//
// If it fails, what is in the buffers is unspecified. Verify what you keep: `df11_unit_verify`, then compare.
//
// Pointers must be NULL or valid.
enum df11_status df11_plan_encode(const struct df11_plan *plan,
                                  const struct df11_bytes *tensors,
                                  size_t count,
                                  const struct df11_buffers *buffers,
                                  struct df11_error *error);

// Opens the frame that these bytes are: checks its header, its directory and its trailer, by their checksums, too. The checksum
// of a block is checked when it is decoded. `frame` is memory of the caller.
//
// Pointers must be NULL or valid, and the bytes stay as long as the frame is used.
enum df11_status df11_frame_open(struct df11_frame *frame,
                                 const uint8_t *data,
                                 size_t len,
                                 struct df11_error *error);

// Says what a frame holds.
//
// Pointers must be NULL or valid.
enum df11_status df11_frame_describe(const struct df11_frame *frame,
                                     struct df11_frame_info *info,
                                     struct df11_error *error);

// Builds the table for decoding the blocks of a frame; takes some microseconds. `table` is memory of the caller.
//
// Pointers must be NULL or valid.
enum df11_status df11_frame_build_table(const struct df11_frame *frame,
                                        struct df11_table *table,
                                        struct df11_error *error);

// Decodes all elements of a frame, little-endian, with the table that was built for it. `out_len` must be `elements_bytes`.
//
// If it fails, what is in `out` is unspecified. It fails if it needs a table, and this is that of another frame. For more than
// 4 MiB of BF16 it takes 256 KiB from the allocator while it runs.
//
// Pointers must be NULL or valid.
enum df11_status df11_frame_decode(const struct df11_frame *frame,
                                   const struct df11_table *table,
                                   uint8_t *out,
                                   size_t out_len,
                                   struct df11_error *error);

// Decodes the blocks from `first` to before `last`; `out_len` must be what their elements take. Calls for different blocks may
// run on different threads.
//
// Pointers must be NULL or valid.
enum df11_status df11_frame_decode_blocks(const struct df11_frame *frame,
                                          const struct df11_table *table,
                                          size_t first,
                                          size_t last,
                                          uint8_t *out,
                                          size_t out_len,
                                          struct df11_error *error);

// The most bytes that the frame of a tensor of this type and shape takes; 0 if there can be none.
//
// `shape` must point to `rank` dimensions.
size_t df11_frame_bound(uint8_t element_type, const uint64_t *shape, size_t rank);

// Encodes a tensor as a frame, to `out`, which has room for `out_len` bytes; `df11_frame_bound` says how many are always
// enough. `*written` is how many it took. What does not become smaller is kept as it is, inside the frame. It takes less than
// 3 MiB, and 64 bytes for every 65,536 elements, from the allocator while it runs.
//
// Pointers must be NULL or valid.
enum df11_status df11_frame_encode(uint8_t element_type,
                                   const uint64_t *shape,
                                   size_t rank,
                                   const uint8_t *elements,
                                   size_t elements_len,
                                   uint8_t *out,
                                   size_t out_len,
                                   size_t *written,
                                   struct df11_error *error);

// Checks an archive of dietgpu, of floats or of bytes, at the front of `data`, and says what it holds.
//
// Pointers must be NULL or valid.
enum df11_status df11_dietgpu_describe(const uint8_t *data,
                                       size_t len,
                                       struct df11_dietgpu_info *info,
                                       struct df11_error *error);

// Decodes an archive of dietgpu, of floats or of bytes; `out_len` must be its `elements_bytes`. Uses some 30 KiB of stack, and
// the allocator for nothing.
//
// If it fails, what is in `out` is unspecified.
//
// Pointers must be NULL or valid.
enum df11_status df11_dietgpu_decode(const uint8_t *data,
                                     size_t len,
                                     uint8_t *out,
                                     size_t out_len,
                                     struct df11_error *error);

// The most bytes that an archive of so many elements takes; 0 if there can be none.
size_t df11_dietgpu_bound(uint8_t element_type, size_t elements);

// Encodes elements as an archive of dietgpu, to `out`, which has room for `out_len` bytes; `*written` is how many it took.
// `element_type` is F16, BF16 or F32, or `DF11_TYPE_U8` for an archive of bytes; `scale_bits` is 9 to 11, and 10 in dietgpu
// itself; `checksum` says whether there is to be one. It takes less than four times the size of the
// archive, and 40 KiB, from the allocator while it runs.
//
// Pointers must be NULL or valid.
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
