# SPDX-License-Identifier: Apache-2.0
"""A node's services as a test calls them."""

from typing import Any

from graph import Graph
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.task import Future
from std_srvs.srv import SetBool
from waiting import wait_for


class Services:
    """A node's parameter and lifecycle services, as `ros2 param` and `ros2 lifecycle` use them."""

    def __init__(self, graph: Graph, name: str = "detector") -> None:
        self._node = graph.node
        self._name = graph.name(name)
        self._clients: dict[str, Any] = {}

    def set(self, name: str, value: Any) -> SetParametersResult:
        future = self.begin_set(name, value)
        wait_for(future.done, f"an answer to setting {name}")
        return future.result().results[0]

    def begin_set(self, name: str, value: Any) -> Future:
        message = Parameter(name, value=value).to_parameter_msg()
        return self.begin(SetParameters, "set_parameters", parameters=[message])

    def set_together(self, **values: Any) -> SetParametersResult:
        messages = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        return self.call(
            SetParametersAtomically, "set_parameters_atomically", parameters=messages
        ).result

    def get(self, name: str) -> Any:
        values = self.call(GetParameters, "get_parameters", names=[name]).values
        return parameter_value_to_python(values[0])

    def change(self, transition: str) -> bool:
        request = Transition(label=transition)
        return self.call(ChangeState, "change_state", transition=request).success

    @property
    def state(self) -> str:
        return self.call(GetState, "get_state").current_state.label

    def enable(self, enabled: bool) -> SetBool.Response:
        return self.call(SetBool, "enable", data=enabled)

    def call(self, kind: Any, service: str, **request: Any) -> Any:
        future = self.begin(kind, service, **request)
        wait_for(future.done, f"an answer of {self._name}/{service}")
        return future.result()

    def begin(self, kind: Any, service: str, **request: Any) -> Future:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(kind, f"{self._name}/{service}")
        client = self._clients[service]
        wait_for(client.service_is_ready, f"service {self._name}/{service}")
        return client.call_async(kind.Request(**request))
