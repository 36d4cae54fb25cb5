"""The paper's 28 ways to put an instruction, its input and its output into a prompt and a completion.

Seven of the twelve datasets are rendered with one of these, drawn for each row (``encode_instruction_example`` of the
2023 code). What is misspelt there (*Plase*), or lacks a space (*Instruction:* directly before the text), stays so: the
models have read it. White space at the end of a prompt vanishes in training, which strips every message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from trainer.conversation import Conversation, Message
from trainer.raw.rows import Row


@dataclass(frozen=True, slots=True)
class Template:
    """One form; ``{instruction}``, ``{input}`` and ``{output}`` stand for a row's texts, stripped."""

    #: Its share among the forms of its group.
    weight: float
    prompt: str
    completion: str = "{output}"

    def fill(self, instruction: str, input: str, output: str) -> tuple[str, str]:
        """Prompt and completion; braces in the texts mean nothing."""
        texts = {"instruction": instruction.strip(), "input": input.strip(), "output": output.strip()}
        return self.prompt.format(**texts), self.completion.format(**texts)


_RESPOND = "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n"
_PAIRED = "Below is an instruction that describes a task, paired with an input that provides further context. "

WITH_INPUT = (
    Template(0.2, "{instruction}\n\n{input}\n\n"),
    Template(0.1, "{instruction}\n{input}\n\n"),
    Template(0.1, "{instruction}\n{input}\n"),
    Template(0.05, "{instruction}\n\nInput: {input}\n\nOutput:"),
    Template(0.05, "{instruction}\nInput: {input}\nOutput:"),
    Template(0.05, "{instruction}\n{input}\n\nResponse:"),
    Template(0.05, "{instruction}\n\nAdditional Context:\n{input}\n\nAnswer:"),
    Template(0.05, "Task: {instruction}\nInput: {input}\nOutput:"),
    Template(0.05, "Task: {instruction}\n\n{input}\n\n"),
    Template(0.05, "Task: {instruction}\n\n{input}\n\nAnswer:"),
    Template(0.05, "You need to complete the following task:\n\n{instruction}\n\n{input}\n\nAnswer:"),
    Template(0.05, "{instruction}\n\nNow complete the following instance -\nInput: {input}\nOutput:"),
    Template(0.05, "Instruction:{instruction}\n\nInput: {input}\n\n"),
    Template(0.1, _PAIRED + _RESPOND + "### Input:\n{input}\n\n### Response:"),
)

WITHOUT_INPUT = (
    Template(0.2, "{instruction}\n\n"),
    Template(0.1, "{instruction}\n"),
    Template(0.1, "{instruction}", "\n{output}"),
    Template(0.05, "{instruction} Output:"),
    Template(0.05, "{instruction}\nResponse:"),
    Template(0.05, "{instruction}\n\nAnswer:"),
    Template(0.05, "Task: {instruction}\n\n"),
    Template(0.05, "Instruction: {instruction}\n"),
    Template(0.05, "Instruction: {instruction}\nOutput:"),
    Template(0.05, "You need to complete the following task:\n\n{instruction}\n\n"),
    Template(0.05, "Can you help with this?\n\n{instruction}\n"),
    Template(0.05, "Plase answer the following request: {instruction}\nAnswer:"),
    Template(0.05, "Tell me how would you respond to the following request.\n{instruction}\n"),
    Template(0.1, _RESPOND + "### Response:"),
)


def draw(random: Random, input: str) -> Template:
    """The form for a row; one draw, whatever the row holds."""
    group = WITH_INPUT if input.strip() else WITHOUT_INPUT
    return random.choices(group, weights=[template.weight for template in group])[0]


def alike(
    row: Row,
    random: Random,
    *,
    dataset: str,
    instruction: str = "instruction",
    input: str = "input",
    output: str = "output",
) -> Iterator[Conversation]:
    """The conversation of a row of three texts under these field names; an input may be null.

    An empty output, which the 2023 code keeps and which teaches a model to say nothing, is a fault; so is a row that
    asks nothing. Either has had its draw, so that the rows behind it get the forms that they got in 2023.
    """
    yield templated(
        row,
        random,
        id=f"{dataset}_{row.number}",
        dataset=dataset,
        instruction=row.text(instruction),
        input=row.text_or_null(input),
        output=row.text(output),
    )


def templated(
    row: Row, random: Random, *, dataset: str, id: str, instruction: str, input: str, output: str
) -> Conversation:
    """A user's turn and its answer, in a drawn form; raises the row's Fault where one of them is empty."""
    template = draw(random, input)
    if not output.strip():
        raise row.fault("the output is empty")
    if not (instruction.strip() or input.strip()):
        raise row.fault("instruction and input are empty")
    prompt, completion = template.fill(instruction, input, output)
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=completion))
    return Conversation(dataset=dataset, id=id, messages=messages)
