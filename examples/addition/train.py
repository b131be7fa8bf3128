"""Train the addition model, export it to ONNX, and measure the exported file.

The model reads a sum such as `347+58` one character at a time and writes `405`. It is an
encoder-decoder: one LSTM reads the question, its final state starts a second LSTM, and that one
writes five characters, each fed back as the input of the next step.

    python train.py               train, write addition.onnx and cases.json, measure
    python train.py --no-train    measure the addition.onnx that is there, write cases.json

Every sum of two numbers from 0 to 999 is one of a million problems. A tenth of them, chosen by
`held_out`, is never trained on, and every figure this script prints comes from that tenth, run
through ONNX Runtime on the exported file.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SEED = 1
VOCABULARY = "0123456789+ "  # the position of a character is its token
SPACE = VOCABULARY.index(" ")  # ends and pads the answer, and starts the decoder
QUESTION_LENGTH = len("999+999")
ANSWER_LENGTH = len("1998 ")  # the longest answer and the space that ends it

EMBEDDING = 16
HIDDEN = 128

BATCH = 256
STEPS = 30_000
STEPS_PER_CALL = 100  # steps compiled into one call; the learning curve is printed every tenth
LEARNING_RATE = 4e-3
WARM_UP = 500

HERE = Path(__file__).parent


# Problems


def held_out(a, b):
    """Whether a+b is kept from training: a fixed tenth of all problems, picked by a hash of the
    unordered pair, so that 58+347 is held out with 347+58. The 1 keeps 0+0, the only sum whose
    answer is 0, from hashing to 0: no other problem could teach that answer."""
    key = (np.minimum(a, b) * 1000 + np.maximum(a, b) + 1).astype(np.uint32)
    for _ in range(2):  # each round multiplies the bits upwards and folds them back down
        key = key * np.uint32(0x45D9F3B)
        key = key ^ (key >> np.uint32(16))
    return key % 10 == 0


def draw(random, count):
    """Draw problems to train on. Half of them have uniform operands; for the other half the number
    of digits is drawn first, so that short numbers, rare among 0..999, are learnt too."""
    uniform = random.integers(0, 1000, (2, 2 * count))
    digits = random.integers(1, 4, uniform.shape)
    by_length = random.integers(np.where(digits == 1, 0, 10 ** (digits - 1)), 10**digits)
    a, b = np.where(random.random(2 * count) < 0.5, uniform, by_length)
    trained = ~held_out(a, b)  # about 1.8 * count of the 2 * count drawn
    return a[trained][:count], b[trained][:count]


def encode(texts):
    """The tokens of equally long texts: int32 [texts, characters]."""
    token = np.zeros(128, np.int32)
    token[[ord(character) for character in VOCABULARY]] = np.arange(len(VOCABULARY))
    characters = np.frombuffer("".join(texts).encode("ascii"), np.uint8)
    return token[characters].reshape(len(texts), -1)


def training_batches(random):
    """Tokens for one compiled call: questions [steps, BATCH, time] padded on the left, answers
    [steps, BATCH, ANSWER_LENGTH] padded on the right."""
    a, b = draw(random, STEPS_PER_CALL * BATCH)
    problems = list(zip(a.tolist(), b.tolist()))
    questions = encode([f"{a}+{b}".rjust(QUESTION_LENGTH) for a, b in problems])
    answers = encode([f"{a + b}".ljust(ANSWER_LENGTH) for a, b in problems])
    shape = (STEPS_PER_CALL, BATCH, -1)
    return questions.reshape(shape), answers.reshape(shape)


# Model. Parameters have the layout of the ONNX operators: gates in the order i, o, f, c.


def initial_parameters(random):
    """Uniform weights scaled to the width; the forget gates start open."""

    def uniform(*shape):
        bound = 1 / np.sqrt(HIDDEN)
        return random.uniform(-bound, bound, shape).astype(np.float32)

    def lstm_weights():
        bias = np.zeros(4 * HIDDEN, np.float32)
        bias[2 * HIDDEN : 3 * HIDDEN] = 1
        return {
            "W": uniform(4 * HIDDEN, EMBEDDING),
            "R": uniform(4 * HIDDEN, HIDDEN),
            "B": bias,
        }

    vocabulary = len(VOCABULARY)
    return {
        "embedding": random.normal(size=(vocabulary, EMBEDDING)).astype(np.float32),
        "encoder": lstm_weights(),
        "decoder": lstm_weights(),
        "output": {
            "W": uniform(HIDDEN, vocabulary),
            "B": np.zeros(vocabulary, np.float32),
        },
    }


def lstm(parameters, embedded, live, state):
    """Run an LSTM over embedded characters [time, batch, EMBEDDING]. Where `live` [time, batch] is
    false the state passes unchanged, as if the character were not there. Returns the hidden states
    [time, batch, HIDDEN] and the final state."""

    def step(state, inputs):
        projected, live = inputs
        h, c = state
        i, o, f, g = jnp.split(projected + h @ parameters["R"].T, 4, axis=-1)
        new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
        h = jnp.where(live[:, None], new_h, h)
        c = jnp.where(live[:, None], new_c, c)
        return (h, c), h

    projected = embedded @ parameters["W"].T + parameters["B"]
    state, hidden = jax.lax.scan(step, state, (projected, live), unroll=True)
    return hidden, state


def loss(parameters, questions, answers):
    """Mean cross entropy per answer character, the decoder reading the right previous one."""
    questions, answers = questions.T, answers.T  # [time, batch]
    previous = jnp.concatenate([jnp.full_like(answers[:1], SPACE), answers[:-1]])
    zeros = jnp.zeros((questions.shape[1], HIDDEN))
    embedding = parameters["embedding"]
    _, state = lstm(
        parameters["encoder"], embedding[questions], questions != SPACE, (zeros, zeros)
    )
    hidden, _ = lstm(
        parameters["decoder"], embedding[previous], jnp.full(previous.shape, True), state
    )
    logits = hidden @ parameters["output"]["W"] + parameters["output"]["B"]
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probabilities, answers[..., None], axis=-1).mean()


# Training


@partial(jax.jit, static_argnames="steps", donate_argnums=(0, 1))
def train_steps(parameters, adam, first_step, batches, steps):
    """Adam with warm-up, cosine decay to zero and gradients clipped to norm 1, for one step per
    batch. Returns the parameters, Adam's moments and the mean loss."""

    def step(carry, inputs):
        parameters, (mean, square) = carry
        index, questions, answers = inputs
        value, gradient = jax.value_and_grad(loss)(parameters, questions, answers)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
        gradient = jax.tree.map(lambda g: g / jnp.maximum(norm, 1), gradient)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g**2, square, gradient)
        rate = LEARNING_RATE * 0.5 * (1 + jnp.cos(jnp.pi * index / steps))
        rate *= jnp.minimum(1, (index + 1) / WARM_UP)
        mean_scale = 1 / (1 - 0.9 ** (index + 1))
        square_scale = 1 / (1 - 0.99 ** (index + 1))
        parameters = jax.tree.map(
            lambda p, m, s: p - rate * mean_scale * m / (jnp.sqrt(square_scale * s) + 1e-8),
            parameters,
            mean,
            square,
        )
        return (parameters, (mean, square)), value

    indices = first_step + jnp.arange(STEPS_PER_CALL)
    (parameters, adam), losses = jax.lax.scan(step, (parameters, adam), (indices, *batches))
    return parameters, adam, losses.mean()


def train(steps):
    """Train from the fixed seed on fresh problems and return the parameters as numpy arrays."""
    random = np.random.default_rng(SEED)
    parameters = jax.tree.map(jnp.asarray, initial_parameters(random))
    adam = (jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters))
    start = time.monotonic()
    for first in range(0, steps, STEPS_PER_CALL):
        batches = training_batches(random)
        parameters, adam, value = train_steps(parameters, adam, first, batches, steps)
        done = first + STEPS_PER_CALL
        if done % (10 * STEPS_PER_CALL) == 0 or done == steps:
            print(f"step {done:6}  loss {value:.5f}  {time.monotonic() - start:5.0f} s", flush=True)
    return jax.tree.map(np.asarray, parameters)


# Export


def export(parameters, path):
    """Write the model to `path`.

    Inputs: `question` int64 [time, batch], `h` and `c` float32 [1, batch, HIDDEN], the encoder's
    initial state. Outputs: `answer` int64 [ANSWER_LENGTH, batch], `h_out` and `c_out`, the
    encoder's final state. Fed back into `h` and `c` it continues the question where it stopped.
    """

    def initializer(name, array):
        return numpy_helper.from_array(np.asarray(array, order="C"), name)

    def value(name, dtype, *shape):
        return helper.make_tensor_value_info(name, dtype, shape)

    def state(name):
        return value(name, TensorProto.FLOAT, 1, "batch", HIDDEN)

    initializers = [initializer("embedding", parameters["embedding"])]
    for name in ("encoder", "decoder"):
        weights = parameters[name]
        bias = np.concatenate([weights["B"], np.zeros_like(weights["B"])])  # of W, then of R
        initializers += [
            initializer(f"{name}_W", weights["W"][None]),  # [1, 4 * HIDDEN, EMBEDDING]
            initializer(f"{name}_R", weights["R"][None]),  # [1, 4 * HIDDEN, HIDDEN]
            initializer(f"{name}_B", bias[None]),  # [1, 8 * HIDDEN]
        ]
    initializers += [
        initializer("output_W", parameters["output"]["W"]),
        initializer("output_B", parameters["output"]["B"]),
        initializer("answer_length", np.array(ANSWER_LENGTH)),
        initializer("always", np.array(True)),
        initializer("one", np.array([1])),
    ]

    # One answer character: the loop carries the previous token and the decoder's state.
    body = helper.make_graph(
        name="decoder_step",
        inputs=[
            value("step", TensorProto.INT64),
            value("go_on", TensorProto.BOOL),
            value("previous", TensorProto.INT64, 1, "batch"),
            state("decoder_h"),
            state("decoder_c"),
        ],
        nodes=[
            helper.make_node("Identity", ["go_on"], ["go_on_out"], name="go_on"),
            helper.make_node(
                "Gather", ["embedding", "previous"], ["embedded_previous"], name="embed_previous"
            ),
            helper.make_node(
                "LSTM",
                ["embedded_previous", "decoder_W", "decoder_R", "decoder_B"]
                + ["", "decoder_h", "decoder_c"],
                ["", "decoder_h_out", "decoder_c_out"],
                name="decoder",
                hidden_size=HIDDEN,
            ),
            helper.make_node(
                "MatMul", ["decoder_h_out", "output_W"], ["projected"], name="output_projection"
            ),
            helper.make_node("Add", ["projected", "output_B"], ["logits"], name="output_bias"),
            helper.make_node(
                "ArgMax", ["logits"], ["token"], name="choose_token", axis=2, keepdims=0
            ),
            helper.make_node("Identity", ["token"], ["token_written"], name="write_token"),
        ],
        outputs=[
            value("go_on_out", TensorProto.BOOL),
            value("token", TensorProto.INT64, 1, "batch"),
            state("decoder_h_out"),
            state("decoder_c_out"),
            value("token_written", TensorProto.INT64, 1, "batch"),
        ],
    )
    graph = helper.make_graph(
        name="addition",
        inputs=[value("question", TensorProto.INT64, "time", "batch"), state("h"), state("c")],
        nodes=[
            helper.make_node(
                "Gather", ["embedding", "question"], ["embedded_question"], name="embed_question"
            ),
            helper.make_node(
                "LSTM",
                ["embedded_question", "encoder_W", "encoder_R", "encoder_B", "", "h", "c"],
                ["", "h_out", "c_out"],
                name="encoder",
                hidden_size=HIDDEN,
            ),
            helper.make_node("Shape", ["question"], ["batch_size"], name="batch_size", start=1),
            helper.make_node(
                "Concat", ["one", "batch_size"], ["token_shape"], name="token_shape", axis=0
            ),
            helper.make_node(
                "ConstantOfShape",
                ["token_shape"],
                ["first_token"],
                name="first_token",
                value=helper.make_tensor("space", TensorProto.INT64, [1], [SPACE]),
            ),
            helper.make_node(
                "Loop",
                ["answer_length", "always", "first_token", "h_out", "c_out"],
                ["last_token", "last_h", "last_c", "tokens"],
                name="decoder_loop",
                body=body,
            ),
            helper.make_node("Squeeze", ["tokens", "one"], ["answer"], name="answer"),
        ],
        outputs=[
            value("answer", TensorProto.INT64, ANSWER_LENGTH, "batch"),
            state("h_out"),
            state("c_out"),
        ],
        initializer=initializers,
    )
    model = helper.make_model(
        graph,
        producer_name="recurve-examples",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    helper.set_model_props(model, {"vocabulary": VOCABULARY})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


# Measurement


class Adder:
    """The exported model in ONNX Runtime."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def run(self, question, h, c):
        """One call of the model on tokens [time, batch]: the answer's tokens and the state."""
        return self.session.run(
            ["answer", "h_out", "c_out"], {"question": question, "h": h, "c": c}
        )

    def answer(self, questions, stream=False):
        """The answers to questions of any lengths, the padding cut off. Each length is one batch;
        with `stream` the model is called once per character and its state fed back."""
        answers = [""] * len(questions)
        for length in sorted(set(map(len, questions))):
            rows = [row for row, question in enumerate(questions) if len(question) == length]
            question = encode([questions[row] for row in rows]).T.astype(np.int64)
            h = c = np.zeros((1, len(rows), HIDDEN), np.float32)
            for part in np.split(question, length) if stream else [question]:
                written, h, c = self.run(part, h, c)
            for row, tokens in zip(rows, written.T):
                answers[row] = "".join(VOCABULARY[token] for token in tokens).rstrip()
        return answers


def percent_right(answers, sums):
    right = np.count_nonzero(np.array(answers) == np.array(sums).astype(str))
    return f"{100 * right / len(sums):.3f} % ({right:,} of {len(sums):,})"


def measure(path, cases_path):
    """Print the accuracy on held-out problems and write 200 of them with the model's answers."""
    adder = Adder(path)
    a, b = np.divmod(np.arange(1_000_000), 1000)
    problems = np.random.default_rng(SEED).permutation(np.stack([a, b], 1)[held_out(a, b)])
    questions = [f"{a}+{b}" for a, b in problems]
    sums = problems.sum(1)
    answers = adder.answer(questions)

    print(f"{path.name}: {path.stat().st_size:,} bytes")
    print("accuracy on 10,000 random problems not trained on:", end=" ")
    print(percent_right(answers[:10_000], sums[:10_000]))
    print("accuracy on every problem not trained on:", percent_right(answers, sums))
    lengths = np.array([len(question) for question in questions])
    for length in range(3, QUESTION_LENGTH + 1):
        rows = np.flatnonzero(lengths == length)
        print(f"  {length} characters:", percent_right([answers[row] for row in rows], sums[rows]))

    streamed = adder.answer(questions[:1000], stream=True)
    equal = sum(one == other for one, other in zip(answers, streamed))
    print(f"answers equal in one call and character by character: {equal:,} of 1,000")

    # Of each length as many as this says, so that short questions are among them.
    counts = {3: 7, 4: 43, 5: 50, 6: 50, 7: 50}
    rows = [row for length in counts for row in np.flatnonzero(lengths == length)[: counts[length]]]
    cases = [{"question": questions[row], "answer": answers[row]} for row in rows]
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    cases_path.write_text(f"[\n{lines}\n]\n")


def main():
    parser = argparse.ArgumentParser(description="Train, export and measure the addition model.")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps, in hundreds")
    parser.add_argument("--no-train", action="store_true", help="measure the model that is there")
    parser.add_argument("--model", type=Path, default=HERE / "addition.onnx")
    parser.add_argument("--cases", type=Path, default=HERE / "cases.json")
    arguments = parser.parse_args()
    if not arguments.no_train:
        export(train(arguments.steps), arguments.model)
    measure(arguments.model, arguments.cases)


if __name__ == "__main__":
    main()
