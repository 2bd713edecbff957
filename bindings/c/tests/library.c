/* Tests of libdf11, in the part of C that is C99 and C++17 alike: library COMPRESSED PLAIN
 *
 * Ends with 0 if every law holds; COMPRESSED and PLAIN are the same checkpoint. Output buffers are just as long as they have to
 * be, so that a sanitizer sees what goes beyond them.
 */
#include <df11.h>
#include <df11_files.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned checks = 0;

#define CHECK(law)                                                                   \
    do {                                                                             \
        checks++;                                                                    \
        if (!(law)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #law); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

static uint8_t *allocate(size_t len) {
    uint8_t *memory = (uint8_t *)malloc(len ? len : 1);
    CHECK(memory != NULL);
    return memory;
}

static uint64_t random_state = 1;

static uint32_t next_random(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

/* Weights with some twenty exponents, the more often the nearer to 1/64. */
static uint8_t *make_weights(size_t n) {
    uint8_t *weights = allocate(2 * n);
    for (size_t i = 0; i < n; i++) {
        uint32_t r = next_random();
        unsigned exponent = 121;
        while ((r & 1) != 0 && exponent > 101) {
            r >>= 1;
            exponent--;
        }
        unsigned bits = (unsigned)(next_random() & 0x807f) | exponent << 7;
        weights[2 * i] = (uint8_t)bits;
        weights[2 * i + 1] = (uint8_t)(bits >> 8);
    }
    return weights;
}

/* An encoded unit and the memory that it takes. */
typedef struct {
    df11_buffers buffers;
    df11_tensors tensors;
} encoded;

static df11_buffer buffer_of(size_t len) {
    df11_buffer buffer;
    buffer.data = len ? allocate(len) : NULL;
    buffer.len = len;
    return buffer;
}

static df11_bytes view(df11_buffer buffer) {
    df11_bytes bytes;
    bytes.data = buffer.data;
    bytes.len = buffer.len;
    return bytes;
}

static encoded encode(const df11_bytes *tensors, size_t count, size_t elements) {
    static df11_plan plan;
    df11_error error;
    df11_sizes sizes, bound;
    encoded unit;
    CHECK(df11_plan_new(&plan, tensors, count, NULL, &error) == DF11_OK);
    CHECK(error.status == DF11_OK && error.message[0] == 0);
    CHECK(df11_plan_sizes(&plan, &sizes, NULL) == DF11_OK);
    CHECK(df11_unit_bound(elements, count, &bound, NULL) == DF11_OK);
    CHECK(sizes.luts <= bound.luts && sizes.encoded_exponent <= bound.encoded_exponent);
    CHECK(sizes.sign_mantissa == elements && bound.sign_mantissa == elements);
    CHECK(sizes.output_positions <= bound.output_positions && sizes.gaps <= bound.gaps);
    CHECK(sizes.split_positions == 8 * (count - 1) && sizes.split_positions == bound.split_positions);
    unit.buffers.luts = buffer_of(sizes.luts);
    unit.buffers.encoded_exponent = buffer_of(sizes.encoded_exponent);
    unit.buffers.sign_mantissa = buffer_of(sizes.sign_mantissa);
    unit.buffers.output_positions = buffer_of(sizes.output_positions);
    unit.buffers.gaps = buffer_of(sizes.gaps);
    unit.buffers.split_positions = buffer_of(sizes.split_positions);
    CHECK(df11_plan_encode(&plan, tensors, count, &unit.buffers, &error) == DF11_OK);
    unit.tensors.luts = view(unit.buffers.luts);
    unit.tensors.encoded_exponent = view(unit.buffers.encoded_exponent);
    unit.tensors.sign_mantissa = view(unit.buffers.sign_mantissa);
    unit.tensors.output_positions = view(unit.buffers.output_positions);
    unit.tensors.gaps = view(unit.buffers.gaps);
    unit.tensors.split_positions = view(unit.buffers.split_positions);

    /* Buffers of other lengths, or of the same memory twice, are refused. */
    df11_buffers wrong = unit.buffers;
    wrong.sign_mantissa.len--;
    CHECK(df11_plan_encode(&plan, tensors, count, &wrong, &error) == DF11_INVALID_INPUT);
    wrong = unit.buffers;
    wrong.gaps.data = unit.buffers.luts.data + 1;
    CHECK(df11_plan_encode(&plan, tensors, count, &wrong, &error) == DF11_INVALID_INPUT);
    CHECK(strstr(error.message, "overlaps") != NULL);
    return unit;
}

/* What is written must not lie in what is read: refused, and nothing is changed. */
static void results_over_their_own_input_are_refused(void) {
    static uint64_t aligned_weights[1024], aligned_parts[1 << 14];
    static uint8_t kept[1 << 17];
    uint8_t *weights = (uint8_t *)aligned_weights, *parts = (uint8_t *)aligned_parts;
    const size_t bytes = 6000;
    for (int i = 0; i < 3000; i++) {
        uint16_t weight = (uint16_t)((i * 37 & 0x7f) | (118 + i % 5) << 7);
        memcpy(weights + 2 * i, &weight, 2);
    }
    df11_bytes tensor = {weights, bytes};
    df11_error error;
    static df11_plan plan;
    df11_sizes sizes;
    CHECK(df11_plan_new(&plan, &tensor, 1, NULL, NULL) == DF11_OK);
    CHECK(df11_plan_sizes(&plan, &sizes, NULL) == DF11_OK);
    const size_t lengths[] = {sizes.luts, sizes.encoded_exponent, sizes.sign_mantissa, sizes.output_positions,
                              sizes.gaps, sizes.split_positions};
    df11_buffer buffers[6];
    for (size_t i = 0, at = 0; i < 6; i++) {
        buffers[i].data = parts + at;
        buffers[i].len = lengths[i];
        at = (at + lengths[i] + 63) & ~(size_t)63;
    }
    df11_buffers out = {buffers[0], buffers[1], buffers[2], buffers[3], buffers[4], buffers[5]};
    CHECK(df11_plan_encode(&plan, &tensor, 1, &out, NULL) == DF11_OK);
    df11_tensors tensors;
    memcpy(&tensors, &out, sizeof tensors);
    memcpy(kept, parts, sizeof kept);
    for (size_t i = 0; i < 5; i++) {
        df11_unit *over = (df11_unit *)(void *)buffers[i].data;
        CHECK(df11_unit_open(over, &tensors, &error) == DF11_INVALID_INPUT);
        CHECK(strstr(error.message, "overlaps") != NULL && memcmp(kept, parts, sizeof kept) == 0);
    }
    static uint8_t same[6000];
    memcpy(same, weights, sizeof same);
    CHECK(df11_plan_new((df11_plan *)(void *)weights, &tensor, 1, NULL, &error) == DF11_INVALID_INPUT);
    CHECK(memcmp(same, weights, sizeof same) == 0);
    static df11_unit unit;
    df11_unit_info info;
    size_t end = 0;
    CHECK(df11_unit_open(&unit, &tensors, NULL) == DF11_OK);
    CHECK(df11_unit_describe(&unit, (df11_unit_info *)(void *)&unit, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_tensor_range(&unit, 0, (size_t *)(void *)&unit, &end, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_describe(&unit, &info, NULL) == DF11_OK && info.elements == 3000);
    CHECK(df11_plan_sizes(&plan, (df11_sizes *)(void *)&plan, &error) == DF11_INVALID_INPUT);
    CHECK(df11_plan_sizes(&plan, &sizes, NULL) == DF11_OK);
}

static void release(encoded *unit) {
    free(unit->buffers.luts.data);
    free(unit->buffers.encoded_exponent.data);
    free(unit->buffers.sign_mantissa.data);
    free(unit->buffers.output_positions.data);
    free(unit->buffers.gaps.data);
    free(unit->buffers.split_positions.data);
}

static void units_come_back_whole_by_range_by_block_and_by_tensor(size_t n) {
    uint8_t *weights = make_weights(n);
    uint8_t *decoded = allocate(2 * n);
    df11_bytes tensors[2];
    size_t first = n / 3, start, end;
    tensors[0].data = weights;
    tensors[0].len = 2 * first;
    tensors[1].data = weights + 2 * first;
    tensors[1].len = 2 * (n - first);
    encoded parts = encode(tensors, 2, n);

    df11_unit unit;
    df11_unit_info info;
    df11_error error;
    CHECK(df11_unit_open(&unit, &parts.tensors, &error) == DF11_OK);
    CHECK(df11_unit_describe(&unit, &info, NULL) == DF11_OK);
    CHECK(info.elements == n && info.tensors == 2 && info.blocks > 0 && info.largest_block <= n);
    CHECK(df11_unit_decode(&unit, decoded, 2 * n, NULL) == DF11_OK && memcmp(decoded, weights, 2 * n) == 0);
    memset(decoded, 0, 2 * n);
    CHECK(df11_unit_verify(&unit, decoded, 2 * n, NULL) == DF11_OK && memcmp(decoded, weights, 2 * n) == 0);

    CHECK(df11_unit_tensor_range(&unit, 1, &start, &end, NULL) == DF11_OK && start == first && end == n);
    CHECK(df11_unit_tensor_range(&unit, 2, &start, &end, NULL) == DF11_INVALID_INPUT);
    for (int i = 0; i < 20; i++) {
        size_t from = next_random() % (n + 1), to = from + next_random() % (n - from + 1);
        uint8_t *part = allocate(2 * (to - from));
        CHECK(df11_unit_decode_range(&unit, from, to, part, 2 * (to - from), NULL) == DF11_OK);
        CHECK(memcmp(part, weights + 2 * from, 2 * (to - from)) == 0);
        free(part);
    }
    for (size_t block = 0; block < info.blocks; block++) {
        CHECK(df11_unit_block_range(&unit, block, &start, &end, NULL) == DF11_OK);
        uint8_t *part = allocate(2 * (end - start));
        CHECK(df11_unit_decode_blocks(&unit, block, block + 1, part, 2 * (end - start), NULL) == DF11_OK);
        CHECK(memcmp(part, weights + 2 * start, 2 * (end - start)) == 0);
        free(part);
    }
    CHECK(df11_unit_block_range(&unit, info.blocks, &start, &end, NULL) == DF11_INVALID_INPUT);
    release(&parts);
    free(weights);
    free(decoded);
}

static void what_cannot_be_meant_is_invalid_input(void) {
    static df11_table table;
    static df11_plan plan;
    static df11_unit zeros;
    uint8_t weights[8] = {0x80, 0x3f, 0x00, 0x40, 0x80, 0x3f, 0x80, 0xbf};
    uint8_t out[8];
    df11_bytes tensor = {weights, sizeof weights};
    df11_error error;
    df11_sizes sizes;
    df11_unit unit;
    df11_frame frame;
    df11_frame_info info;
    size_t start, end;
    encoded parts = encode(&tensor, 1, 4);
    CHECK(df11_unit_open(&unit, &parts.tensors, NULL) == DF11_OK);

    CHECK(df11_unit_open(NULL, &parts.tensors, &error) == DF11_INVALID_INPUT && error.message[0] != 0);
    CHECK(df11_unit_open(&unit, NULL, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode(NULL, out, 8, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode(&unit, NULL, 8, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode(&unit, out, 7, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode(&unit, out, 0, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode(&unit, out, SIZE_MAX, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode(&zeros, out, 8, &error) == DF11_INVALID_INPUT);
    CHECK(strstr(error.message, "never opened") != NULL);
    CHECK(df11_unit_decode((const df11_unit *)(const void *)&plan, out, 8, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode(&unit, parts.buffers.sign_mantissa.data, 8, &error) == DF11_INVALID_INPUT);
    CHECK(strstr(error.message, "overlaps") != NULL);
    CHECK(df11_unit_decode_range(&unit, 2, 5, out, 6, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode_range(&unit, 3, 2, out, 0, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_decode_range(&unit, 4, 4, NULL, 0, &error) == DF11_OK);
    CHECK(df11_unit_decode_blocks(&unit, 0, 2, out, 8, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_describe(&unit, NULL, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_tensor_range(&unit, 0, NULL, &end, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_block_range(&unit, 0, &start, NULL, &error) == DF11_INVALID_INPUT);
    df11_tensors none = parts.tensors;
    none.luts.data = NULL;
    CHECK(df11_unit_open(&unit, &none, &error) == DF11_INVALID_INPUT);

    CHECK(df11_plan_new(NULL, &tensor, 1, NULL, &error) == DF11_INVALID_INPUT);
    CHECK(df11_plan_new(&plan, NULL, 1, NULL, &error) == DF11_INVALID_INPUT);
    CHECK(df11_plan_new(&plan, NULL, 0, NULL, &error) == DF11_UNSUPPORTED || error.status == DF11_INVALID_INPUT);
    tensor.len = 7;
    CHECK(df11_plan_new(&plan, &tensor, 1, NULL, &error) == DF11_INVALID_INPUT);
    df11_options options = {9, 40};
    tensor.len = 8;
    CHECK(df11_plan_new(&plan, &tensor, 1, &options, &error) == DF11_INVALID_INPUT);
    CHECK(df11_plan_sizes(NULL, &sizes, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_bound(0, 1, &sizes, &error) == DF11_INVALID_INPUT);

    CHECK(df11_frame_open(&frame, NULL, 10, &error) == DF11_INVALID_INPUT);
    CHECK(df11_frame_open(&frame, NULL, 0, &error) == DF11_TRUNCATED);
    CHECK(df11_frame_open(&frame, weights, 8, &error) == DF11_CORRUPT && strncmp(error.clause, "F-", 2) == 0);
    memset(&frame, 0, sizeof frame);
    CHECK(df11_frame_describe(&frame, &info, &error) == DF11_INVALID_INPUT);
    CHECK(df11_frame_decode(&frame, &table, out, 8, &error) == DF11_INVALID_INPUT);
    CHECK(df11_frame_bound(6, NULL, 0) == 0 && df11_frame_bound(DF11_TYPE_U8, NULL, 1) == 0);
    CHECK(df11_crc32(7, NULL, 0) == 7 && df11_crc32(0, (const uint8_t *)"123456789", 9) == 0xcbf43926u);
    CHECK(strchr(df11_version(), '.') != NULL);

    /* Structures are inputs, too. */
    size_t written = 0;
    uint64_t shape[2] = {2, 2};
    uint8_t bytes[1024];
    CHECK(df11_frame_encode(DF11_TYPE_BF16, shape, 2, weights, 8, bytes, sizeof bytes, &written, &error) == DF11_OK);
    CHECK(df11_frame_open(&frame, bytes, written, &error) == DF11_OK);
    CHECK(df11_frame_build_table(&frame, &table, &error) == DF11_OK);
    CHECK(df11_frame_decode(&frame, &table, out, 8, &error) == DF11_OK && memcmp(out, weights, 8) == 0);
    CHECK(df11_frame_decode(&frame, &table, (uint8_t *)&table + 64, 8, &error) == DF11_INVALID_INPUT);
    CHECK(df11_frame_decode(&frame, &table, (uint8_t *)&frame, 8, &error) == DF11_INVALID_INPUT);
    CHECK(df11_unit_open(&unit, &parts.tensors, NULL) == DF11_OK);
    CHECK(df11_unit_decode(&unit, (uint8_t *)&unit + 100, 8, &error) == DF11_INVALID_INPUT);
    CHECK(df11_frame_encode(DF11_TYPE_BF16, shape, 2, weights, 8, (uint8_t *)shape, 16, &written, &error) ==
          DF11_INVALID_INPUT);
    uint64_t many[33] = {0};
    CHECK(df11_frame_encode(DF11_TYPE_BF16, many, 33, NULL, 0, bytes, sizeof bytes, &written, &error) ==
          DF11_INVALID_INPUT);
    shape[0] = UINT64_MAX;
    CHECK(df11_frame_encode(DF11_TYPE_BF16, shape, 2, weights, 8, bytes, sizeof bytes, &written, &error) ==
          DF11_INVALID_INPUT);
    CHECK(df11_dietgpu_encode(DF11_TYPE_F8_E4M3, weights, 8, 10, true, bytes, sizeof bytes, &written, &error) ==
          DF11_INVALID_INPUT);
    CHECK(df11_dietgpu_encode(DF11_TYPE_BF16, weights, 7, 10, true, bytes, sizeof bytes, &written, &error) ==
          DF11_INVALID_INPUT);

    /* A NaN has no place in a unit, and the error says which weight it is. */
    weights[3] = 0x7f;
    weights[2] = 0xc0;
    CHECK(df11_plan_new(&plan, &tensor, 1, NULL, &error) == DF11_UNSUPPORTED);
    CHECK(error.status == DF11_UNSUPPORTED && strstr(error.message, "1") != NULL);
    release(&parts);
}

/* Bits of every part are turned over. Whatever comes of it, nothing outside of the output may be touched, and where all is
 * said to be well, only signs and mantissas may differ, of which the layout has no checksum. */
static void damaged_units_are_refused_or_decode_within_their_memory(void) {
    const size_t n = 3000;
    uint8_t *weights = make_weights(n);
    uint8_t *decoded = allocate(2 * n);
    df11_bytes tensor = {weights, 2 * n};
    encoded parts = encode(&tensor, 1, n);
    df11_buffer all[5] = {parts.buffers.luts, parts.buffers.encoded_exponent, parts.buffers.sign_mantissa,
                          parts.buffers.output_positions, parts.buffers.gaps};
    unsigned refused = 0;
    for (int part = 0; part < 5; part++) {
        for (size_t bit = 0; bit < 8 * all[part].len; bit += 1 + next_random() % 40) {
            df11_unit unit;
            df11_error error;
            all[part].data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            df11_status status = df11_unit_open(&unit, &parts.tensors, &error);
            if (status == DF11_OK) {
                status = df11_unit_verify(&unit, decoded, 2 * n, &error);
            }
            CHECK(status == error.status && status != DF11_INTERNAL && status != DF11_INVALID_INPUT);
            CHECK((status == DF11_OK) == (error.message[0] == 0));
            refused += status != DF11_OK;
            all[part].data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    CHECK(refused > 100);
    release(&parts);
    free(weights);
    free(decoded);
}

static void frames_come_back_and_every_damage_is_noticed_or_harmless(uint8_t type, size_t size, size_t n) {
    static df11_table table;
    uint64_t shape[2] = {n / 4, 4};
    uint8_t *elements = make_weights((n * size + 1) / 2);
    uint8_t *decoded = allocate(n * size);
    size_t bound = df11_frame_bound(type, shape, 2), written = 0;
    uint8_t *bytes = allocate(bound);
    df11_error error;
    CHECK(df11_frame_encode(type, shape, 2, elements, n * size, bytes, bound, &written, &error) == DF11_OK);
    CHECK(written <= bound);
    uint8_t *exact = allocate(written);
    size_t again = 0;
    CHECK(df11_frame_encode(type, shape, 2, elements, n * size, exact, written, &again, NULL) == DF11_OK);
    CHECK(again == written && memcmp(exact, bytes, written) == 0);
    CHECK(df11_frame_encode(type, shape, 2, elements, n * size, exact, written - 1, &again, &error) ==
          DF11_INVALID_INPUT);

    df11_frame frame;
    df11_frame_info info;
    CHECK(df11_frame_open(&frame, exact, written, &error) == DF11_OK);
    CHECK(df11_frame_describe(&frame, &info, NULL) == DF11_OK);
    CHECK(info.element_type == type && info.rank == 2 && info.shape[0] == n / 4 && info.shape[1] == 4);
    CHECK(info.elements == n && info.elements_bytes == n * size);
    CHECK(info.digest == df11_crc32(0, elements, n * size));
    CHECK(df11_frame_build_table(&frame, &table, NULL) == DF11_OK);
    CHECK(df11_frame_decode(&frame, &table, decoded, n * size, &error) == DF11_OK);
    CHECK(memcmp(decoded, elements, n * size) == 0);
    for (size_t block = 0; block < info.blocks; block++) {
        size_t from = block * info.block_elements;
        size_t count = n - from < info.block_elements ? n - from : info.block_elements;
        uint8_t *part = allocate(count * size);
        CHECK(df11_frame_decode_blocks(&frame, &table, block, block + 1, part, count * size, NULL) == DF11_OK);
        CHECK(memcmp(part, elements + from * size, count * size) == 0);
        free(part);
    }
    CHECK(df11_frame_decode(&frame, &table, decoded, n * size + 1, &error) == DF11_INVALID_INPUT);
    if (written > 0 && n > 0) {
        CHECK(df11_frame_decode(&frame, &table, exact, n * size, &error) == DF11_INVALID_INPUT);
    }

    for (int i = 0; i < 300; i++) {
        size_t bit = next_random() % (8 * written);
        memcpy(exact, bytes, written);
        exact[bit / 8] ^= (uint8_t)(1 << bit % 8);
        df11_status status = df11_frame_open(&frame, exact, written, &error);
        if (status == DF11_OK && (status = df11_frame_build_table(&frame, &table, &error)) == DF11_OK) {
            status = df11_frame_decode(&frame, &table, decoded, n * size, &error);
        }
        CHECK(status == error.status && status != DF11_INTERNAL);
        CHECK(status != DF11_OK || memcmp(decoded, elements, n * size) == 0);
    }
    free(elements);
    free(decoded);
    free(bytes);
    free(exact);
}

static void archives_of_dietgpu_come_back(uint8_t type, size_t size, size_t n, bool checksum) {
    uint8_t *elements = make_weights((n * size + 1) / 2);
    uint8_t *decoded = allocate(n * size);
    size_t bound = df11_dietgpu_bound(type, n), written = 0;
    uint8_t *bytes = allocate(bound);
    df11_dietgpu_info info;
    df11_error error;
    CHECK(df11_dietgpu_encode(type, elements, n * size, 10, checksum, bytes, bound, &written, &error) == DF11_OK);
    CHECK(df11_dietgpu_describe(bytes, written, &info, &error) == DF11_OK);
    CHECK(info.element_type == type && info.elements == n && info.elements_bytes == n * size);
    CHECK(info.archive_bytes == written);
    CHECK(df11_dietgpu_decode(bytes, written, decoded, n * size, &error) == DF11_OK);
    CHECK(memcmp(decoded, elements, n * size) == 0);
    CHECK(df11_dietgpu_describe(bytes, written - 1, &info, &error) == DF11_TRUNCATED);
    CHECK(df11_dietgpu_encode(type, elements, n * size, 20, checksum, bytes, bound, &written, &error) ==
          DF11_INVALID_INPUT);
    CHECK(df11_dietgpu_bound(DF11_TYPE_F8_E4M3, n) == 0);
    free(elements);
    free(decoded);
    free(bytes);
}

/* What a thread decodes of a unit that all share. */
typedef struct {
    const df11_unit *unit;
    const uint8_t *weights;
    size_t start, end;
    bool right;
} share;

static void *decode_share(void *argument) {
    share *mine = (share *)argument;
    size_t len = 2 * (mine->end - mine->start);
    uint8_t *part = allocate(len);
    df11_error error;
    mine->right = true;
    for (int i = 0; i < 5; i++) {
        mine->right &= df11_unit_decode_range(mine->unit, mine->start, mine->end, part, len, &error) == DF11_OK;
        mine->right &= memcmp(part, mine->weights + 2 * mine->start, len) == 0;
    }
    free(part);
    return NULL;
}

static void one_unit_serves_many_threads(void) {
    enum { N = 100000, THREADS = 4 };
    uint8_t *weights = make_weights(N);
    df11_bytes tensor = {weights, 2 * N};
    encoded parts = encode(&tensor, 1, N);
    df11_unit unit;
    pthread_t threads[THREADS];
    share shares[THREADS];
    CHECK(df11_unit_open(&unit, &parts.tensors, NULL) == DF11_OK);
    for (size_t i = 0; i < THREADS; i++) {
        share mine = {&unit, weights, i * N / THREADS, (i + 1) * N / THREADS, false};
        shares[i] = mine;
        CHECK(pthread_create(&threads[i], NULL, decode_share, &shares[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0 && shares[i].right);
    }
    release(&parts);
    free(weights);
}

static void checkpoints_give_the_tensors_that_went_in(const char *compressed, const char *plain) {
    df11_checkpoint *a = NULL, *b = NULL;
    df11_error error;
    CHECK(df11_checkpoint_open("/nothing/there", &a, &error) == DF11_IO && a == NULL);
    CHECK(strstr(error.message, "/nothing/there") != NULL);
    CHECK(df11_checkpoint_open(NULL, &a, &error) == DF11_INVALID_INPUT);
    CHECK(df11_checkpoint_open(plain, NULL, &error) == DF11_INVALID_INPUT);
    CHECK(df11_checkpoint_tensor_count(NULL) == 0 && df11_checkpoint_unit_count(NULL) == 0);
    df11_checkpoint_close(NULL);
    CHECK(df11_checkpoint_open(compressed, &a, &error) == DF11_OK && df11_checkpoint_open(plain, &b, &error) == DF11_OK);
    CHECK(df11_checkpoint_tensor_count(a) > 0 && df11_checkpoint_tensor_count(a) == df11_checkpoint_tensor_count(b));
    CHECK(df11_checkpoint_unit_count(b) == 0);
    df11_tensor tensor, other;
    CHECK(df11_checkpoint_find(a, "no such tensor", &tensor, &error) == DF11_INVALID_INPUT);
    CHECK(df11_checkpoint_tensor(a, df11_checkpoint_tensor_count(a), &tensor, &error) == DF11_INVALID_INPUT);
    for (size_t i = 0; i < df11_checkpoint_tensor_count(a); i++) {
        CHECK(df11_checkpoint_tensor(a, i, &tensor, &error) == DF11_OK);
        CHECK(df11_checkpoint_find(b, tensor.name, &other, &error) == DF11_OK);
        CHECK(strcmp(tensor.dtype, other.dtype) == 0 && tensor.rank == other.rank && tensor.bytes == other.bytes);
        CHECK(memcmp(tensor.shape, other.shape, tensor.rank * sizeof *tensor.shape) == 0);
        size_t len = (size_t)tensor.bytes, elements = 1;
        for (size_t j = 0; j < tensor.rank; j++) {
            elements *= tensor.shape[j];
        }
        uint8_t *left = allocate(len), *right = allocate(len);
        CHECK(df11_checkpoint_decode(a, tensor.name, left, len, &error) == DF11_OK);
        CHECK(df11_checkpoint_decode(b, tensor.name, right, len, &error) == DF11_OK);
        CHECK(memcmp(left, right, len) == 0);
        size_t from = elements / 3, to = elements / 2, size = elements ? len / elements : 0;
        CHECK(df11_checkpoint_decode_range(a, tensor.name, from, to, left, (to - from) * size, &error) == DF11_OK);
        CHECK(memcmp(left, right + from * size, (to - from) * size) == 0);
        CHECK(df11_checkpoint_decode(a, tensor.name, left, len + 1, &error) == DF11_INVALID_INPUT);
        CHECK(df11_checkpoint_decode_range(a, tensor.name, 0, elements + 1, left, len, &error) == DF11_INVALID_INPUT);
        free(left);
        free(right);
    }
    for (size_t i = 0; i < df11_checkpoint_unit_count(a); i++) {
        df11_tensors parts;
        df11_unit unit;
        const char *path;
        CHECK(df11_checkpoint_unit(a, i, &parts, &path, &error) == DF11_OK && path != NULL);
        CHECK(df11_unit_open(&unit, &parts, &error) == DF11_OK);
    }
    df11_checkpoint_close(a);
    df11_checkpoint_close(b);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s COMPRESSED PLAIN\n", argv[0]);
        return 64;
    }
    const size_t sizes[] = {1, 2, 3, 100, 4096, 5000, 70001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        units_come_back_whole_by_range_by_block_and_by_tensor(sizes[i]);
    }
    what_cannot_be_meant_is_invalid_input();
    results_over_their_own_input_are_refused();
    damaged_units_are_refused_or_decode_within_their_memory();
    const size_t bytes[] = {1, 2, 2, 4, 1, 1};
    for (uint8_t type = DF11_TYPE_U8; type <= DF11_TYPE_F8_E5M2; type++) {
        frames_come_back_and_every_damage_is_noticed_or_harmless(type, bytes[type], 0);
        frames_come_back_and_every_damage_is_noticed_or_harmless(type, bytes[type], 4);
        frames_come_back_and_every_damage_is_noticed_or_harmless(type, bytes[type], 140000);
    }
    for (uint8_t type = DF11_TYPE_U8; type <= DF11_TYPE_F32; type++) {
        archives_of_dietgpu_come_back(type, bytes[type], 50000, true);
        archives_of_dietgpu_come_back(type, bytes[type], 1, false);
    }
    one_unit_serves_many_threads();
    checkpoints_give_the_tensors_that_went_in(argv[1], argv[2]);
    printf("%u checks\n", checks);
    return 0;
}
